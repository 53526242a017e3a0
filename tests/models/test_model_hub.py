"""Hub models against a local server that speaks the part of the hub's API that is used."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from configs.errors import ConfigurationError
from configs.schema import SweepConfig
from configs.trust import Trust
from configs.yaml_file import validate
from tasks.models.errors import SourceUnavailableError
from tasks.models.sources.hub import explained
from tasks.models.sources.sources import ResolvedModel, fetch, resolve_model
from tasks.steps.session import Session

COMMIT, OTHER = "a" * 40, "b" * 40
REPO = "owner/tiny"


class FakeHub:
    """Serves one folder as ``owner/tiny`` at one commit, known as main."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.whole: list[str] = []
        self.status = 200
        self.config: dict[str, Any] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub.answer(self)

            do_HEAD = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        self.requests.append(f"{request.command} {path}")
        if request.command == "GET" and "Range" not in request.headers:
            self.whole.append(path)
        if self.status != 200:
            self.send(request, self.status, b"{}")
        elif match := re.fullmatch(f"/api/models/{REPO}(?:/revision/(.+))?", path):
            if match[1] in (None, "main", COMMIT):
                self.send(request, 200, self.info())
            else:
                self.send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif path == f"/api/models/{REPO}/tree/{COMMIT}":
            self.send(request, 200, self.tree())
        elif match := re.fullmatch(f"/{REPO}/resolve/(?:{COMMIT}|main)/(.+)", path):
            headers = {"ETag": f'"{self.etag(match[1])}"', "X-Repo-Commit": COMMIT}
            self.send(request, 200, self.read(match[1]), headers)
        else:
            self.send(request, 401, b"{}", {"X-Error-Code": "RepoNotFound"})

    def info(self) -> bytes:
        siblings = [{"rfilename": name} for name in self.names()]
        info = {"id": REPO, "sha": COMMIT, "siblings": siblings, "config": self.config}
        return json.dumps(info).encode()

    def tree(self) -> bytes:
        entries = [
            {"type": "file", "path": name, "size": len(self.read(name)), "oid": self.etag(name)}
            for name in self.names()
        ]
        return json.dumps(entries).encode()

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def etag(self, name: str) -> str:
        return hashlib.sha1(self.read(name), usedforsecurity=False).hexdigest()

    def send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        content: bytes,
        headers: dict[str, str] | None = None,
    ) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(content)


@pytest.fixture
def hub(
    make_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeHub]:
    fake = FakeHub(make_folder(name="served"))
    monkeypatch.setattr(constants, "ENDPOINT", fake.url)
    files = fake.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", files)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits before it tries again
    yield fake
    fake.server.shutdown()
    fake.server.server_close()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def resolve(spec: str = REPO, trust: Trust | None = None) -> ResolvedModel:
    return resolve_model(
        spec,
        field="models[0]",
        base=Path("/nonexistent"),
        trust=trust or Trust(),
        digest_cache=None,
    )


def test_resolves_without_downloading_then_fetches_what_is_needed(hub: FakeHub) -> None:
    (hub.folder / "model.onnx").write_bytes(b"not wanted")
    (hub.folder / "pytorch_model.bin").write_bytes(b"not wanted")
    found = resolve()
    assert (found.kind, found.revision, found.path) == ("hub", COMMIT, "")
    assert not any("/resolve/" in line for line in hub.requests)
    here = fetch(found, field="models[0]", trust=Trust())
    folder = Path(here.path)
    fetched = {path.name for path in folder.iterdir()}
    assert fetched == set(hub.names()) - {"model.onnx", "pytorch_model.bin"}
    assert (folder / "model.safetensors").read_bytes() == hub.read("model.safetensors")
    assert here.digest == found.digest
    assert resolve() == here
    assert resolve(f"{REPO}@main").digest == found.digest


def test_a_cached_commit_needs_no_hub(hub: FakeHub) -> None:
    pinned = fetch(resolve(f"{REPO}@{COMMIT}"), field="models[0]", trust=Trust())
    hub.requests.clear()
    assert resolve(f"{REPO}@{COMMIT}") == pinned
    assert hub.requests == []


def test_offline_works_from_the_cache_alone(hub: FakeHub, offline: Callable[[], None]) -> None:
    online = fetch(resolve(), field="models[0]", trust=Trust())
    offline()
    hub.requests.clear()
    assert resolve() == online
    with pytest.raises(ConfigurationError, match="HF_HUB_OFFLINE is set"):
        resolve("owner/other")
    with pytest.raises(ConfigurationError, match="HF_HUB_OFFLINE is set"):
        resolve(f"{REPO}@{OTHER}")
    (Path(online.path) / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="needs weights"):
        resolve()
    shutil.rmtree(online.path)
    with pytest.raises(ConfigurationError, match="HF_HUB_OFFLINE is set"):
        fetch(online, field="models[0]", trust=Trust())
    assert hub.requests == []


def test_unreachable(hub: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    online = fetch(resolve(), field="models[0]", trust=Trust())
    hub.server.shutdown()
    hub.server.server_close()
    assert resolve() == online
    assert "taken from the local cache" in caplog.text
    with pytest.raises(SourceUnavailableError, match=r"owner/other.* no file or folder .* either"):
        resolve("owner/other")
    shutil.rmtree(online.path)
    with pytest.raises(SourceUnavailableError):
        fetch(online, field="models[0]", trust=Trust())


@pytest.mark.parametrize("status", [429, 500, 503])
def test_trouble_at_the_hub_is_worth_a_retry(hub: FakeHub, status: int) -> None:
    hub.status = status
    with pytest.raises(SourceUnavailableError, match=str(status)):
        resolve()


def test_unknown_names(hub: FakeHub) -> None:
    with pytest.raises(ConfigurationError, match="nothing of that name"):
        resolve("owner/unknown")
    with pytest.raises(ConfigurationError, match="no such revision"):
        resolve(f"{REPO}@v9")
    with pytest.raises(ConfigurationError, match=r"Did you mean 'smollm2-135m'\?"):
        resolve("smollm-135m")
    hub.status = 418
    with pytest.raises(ConfigurationError, match="the hub refuses it"):
        resolve()


@pytest.mark.parametrize("spec", ["", "a b", "a/b/c", "a@", "a@b@c", "http://x/y", "-"])
def test_no_id_at_all(hub: FakeHub, spec: str) -> None:
    with pytest.raises(ConfigurationError):
        resolve(spec)
    assert all(line.endswith("/-") for line in hub.requests)


def test_what_the_repository_lacks(hub: FakeHub) -> None:
    (hub.folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigurationError, match="lacks a tokenizer"):
        resolve()
    (hub.folder / "config.json").unlink()
    (hub.folder / "model.safetensors").rename(hub.folder / "consolidated.safetensors")
    with pytest.raises(
        ConfigurationError, match=r"lacks config\.json and a tokenizer and model\.safetensors"
    ):
        resolve()


def test_an_adapter_is_told_as_a_local_one_is(hub: FakeHub) -> None:
    for path in hub.folder.iterdir():
        path.unlink()
    (hub.folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ConfigurationError) as far:
        resolve(REPO)
    with pytest.raises(ConfigurationError) as near:
        resolve(str(hub.folder))
    assert (far.value.allowed, far.value.hint) == (near.value.allowed, near.value.hint)
    assert "merge_and_unload" in far.value.hint


def test_quantised_is_refused_before_the_download(hub: FakeHub) -> None:
    hub.config = {"quantization_config": {"quant_method": "awq"}}
    with pytest.raises(ConfigurationError, match=r"quantised \(awq\)"):
        resolve()


def test_pickle_only(hub: FakeHub) -> None:
    import torch

    (hub.folder / "model.safetensors").unlink()
    torch.save({}, hub.folder / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match=r"trust\.pickle_weights=true") as refused:
        resolve()
    assert "no file or folder" not in str(refused.value), "it is there: its own hint helps"
    trust = Trust(pickle_weights=True)
    here = fetch(resolve(trust=trust), field="models[0]", trust=trust)
    assert (Path(here.path) / "pytorch_model.bin").is_file()


def test_both_errors_survive_pickling(hub: FakeHub) -> None:
    import pickle

    error = SourceUnavailableError("owner/tiny", "no route")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (str(again), again.source, again.reason) == (str(error), "owner/tiny", "no route")


def sweep_of(folder: Path, **changes: Any) -> SweepConfig:
    (folder / "test.txt").write_text("the quick brown fox " * 40)
    text = {"source": "files", "files": [str(folder / "test.txt")]}
    measured = {"name": "text", "corpus": text, "sequence_length": 16, "windows": 2}
    settings = {"name": "first", "models": [REPO], "methods": ["magnitude"], "targets": ["0.5"],
                "dtype": "float32", "evaluation": {"perplexity": [measured]}}  # fmt: skip
    return validate(settings | changes)


def fetched_weights(hub: FakeHub) -> list[str]:
    return [asked for asked in hub.whole if asked.endswith(".safetensors")]


def test_a_first_plan_knows_as_much_as_the_second(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What headers tell decides what is skipped, and they are asked for before the weights."""
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    config = sweep_of(tmp_path, targets=["0.5", "3:7"])
    first = Session(tmp_path / "home").checked_plan(config)
    assert not fetched_weights(hub)
    fetch(first.models[0].model, field="models[0]", trust=Trust())
    assert fetched_weights(hub)
    second = Session(tmp_path / "home").checked_plan(config)
    assert [entry.target for entry in first.skipped] == ["3:7"]
    assert first.skipped == second.skipped
    assert first.models[0].model.contents == second.models[0].model.contents is not None
    assert first.fingerprint == second.fingerprint


def test_what_headers_refuse_is_refused_without_the_weights(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    session = Session(tmp_path / "home")
    with pytest.raises(ConfigurationError, match=r"exclude: '\*\.q_porj'.*q_proj"):
        session.checked_plan(sweep_of(tmp_path, exclude=["*.q_porj"]))
    path = hub.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 40}))
    shutil.rmtree(constants.HF_HUB_CACHE)
    with pytest.raises(ConfigurationError, match=r"models\[0\].*by its config\.json"):
        session.checked_plan(sweep_of(tmp_path, name="other"))
    assert not fetched_weights(hub)


@pytest.mark.parametrize(
    "words",
    ["'NoneType' object has no attribute 'request'", "the client has been closed"],
)
def test_a_session_that_another_thread_took_away_is_a_lost_connection(words: str) -> None:
    kind = AttributeError if words.startswith("'") else RuntimeError
    with pytest.raises(SourceUnavailableError), explained(field="models[0]", given="owner/tiny"):
        raise kind(words)
    with pytest.raises(kind, match="other"), explained(field="models[0]", given="owner/tiny"):
        raise kind("other")
