"""A form reads only below the data folder, and turns on nothing that runs code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigurationError
from flows.serve.access import restricted
from tasks.store.home import sweep_folder


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "text.txt").write_text("text")
    (folder / "sub" / "config.json").write_text("{}")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "outside").mkdir()
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "linked").symlink_to(tmp_path / "outside")
    (folder / "inner.txt").symlink_to(folder / "text.txt")
    (folder / "trap").mkdir()
    (folder / "trap" / "model.safetensors").symlink_to(tmp_path / "secret.txt")
    work = tmp_path / "work"
    (work / "here").mkdir(parents=True)
    monkeypatch.chdir(work)
    return folder


def corpus(**fields: Any) -> dict[str, Any]:
    return {"calibration": {"corpus": fields}}


def allowed(raw: dict[str, Any], data: Path) -> dict[str, Any]:
    return restricted(raw, data=data, allow_trust=False)


def test_paths_below_the_folder_become_absolute(data: Path) -> None:
    raw = {
        "models": ["sub", "smollm2-135m", "org/name@main"],
        **corpus(source="files", files=["text.txt", "inner.txt", "./sub/../text.txt"][:2]),
        "evaluation": {"zero_shot": {"tasks": ["arc_easy"], "include_path": "sub"}},
    }
    done = allowed(raw, data)
    assert done["models"] == [str(data / "sub"), "smollm2-135m", "org/name@main"]
    assert done["calibration"]["corpus"]["files"] == [str(data / "text.txt")] * 2
    assert done["evaluation"]["zero_shot"]["include_path"] == str(data / "sub")


def test_the_hubs_files_stay_names_and_local_ones_become_paths(data: Path) -> None:
    hub = corpus(source="hub", dataset="allenai/c4", split="train", data_files=["en/a.json.gz"])
    assert allowed(hub, data) == hub
    local = corpus(source="hub", dataset="text", split="train", data_files=["text.txt"])
    assert allowed(local, data)["calibration"]["corpus"]["data_files"] == [str(data / "text.txt")]
    folder = corpus(source="hub", dataset="sub", split="train", data_files=["config.json"])
    done = allowed(folder, data)["calibration"]["corpus"]
    assert done["dataset"] == str(data / "sub")
    assert done["data_files"] == [str(data / "sub" / "config.json")]


FILES = ["/etc/passwd", "../secret.txt", "sub/../../secret.txt", "~/x", "~root/x", "link.txt",
         "linked/x.txt", "C:\\x", "\\\\host\\x", "..\\x", "file:///etc/passwd", "a\0b"]  # fmt: skip
ATTACKS = {
    **{f"file {name!r}": (corpus(files=[name]), "files[0]") for name in FILES},
    **{f"include_path {name!r}": ({"evaluation": {"zero_shot": {"include_path": name}}},
                                  "evaluation.zero_shot.include_path") for name in FILES},
    **{f"model {name!r}": ({"models": [name]}, "models[0]") for name in [
        "/etc", "../work", "./../work", "~/model", "linked", "trap", "here", "a/../../b", "/x.gguf",
        "../x.gguf", "https://host/x", "zip://a::/etc/x"]},
    **{f"dataset {name!r}": (corpus(dataset=name), "calibration.corpus.dataset") for name in [
        "/etc", "..", "./..", "~", "linked", "here", "s3://bucket/x",
        "xml", "fasta", "pandas", "file:a/b", "a/b:c"]},
    **{f"reader's file {name!r}": (corpus(dataset="text", data_files=[name]), "data_files[0]")
       for name in [*FILES, "*.txt", "sub/**", "http://169.254.169.254/x", "zip://x::/etc/x"]},
    **{f"hub's file {name!r}": (corpus(dataset="org/name", data_files=[name]), "data_files[0]")
       for name in ["/etc/passwd", "../x", "file:///x", "zip://x::/etc/x", "file:/etc/x",
                    "local:/etc/x"]},
    **{f"task {name!r}": ({"evaluation": {"zero_shot": {"tasks": [name]}}}, "tasks[0]")
       for name in ["/etc/x.yaml", "../x", "x.yaml", "sub/x"]},
    "remote code": ({"trust": {"remote_code": True}}, "trust.remote_code"),
    "pickle": ({"trust": {"pickle_weights": True}}, "trust.pickle_weights"),
    "pickle as text": ({"trust": {"pickle_weights": "yes"}}, "trust.pickle_weights"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_leads_out_is_refused_by_name(attack: str, data: Path) -> None:
    raw, field = ATTACKS[attack]
    with pytest.raises(ConfigurationError) as refused:
        allowed(raw, data)
    assert field in refused.value.field
    assert "secret" not in str(refused.value).replace("secret.txt", "")


def test_the_operator_can_allow_trust(data: Path) -> None:
    raw = {"trust": {"remote_code": True}}
    assert restricted(raw, data=data, allow_trust=True) == raw


def test_a_sweeps_folder_that_is_a_link_out_of_the_home_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "sweeps").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "home" / "sweeps" / "demo").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="leads out of the home"):
        sweep_folder("demo")
    assert sweep_folder("other") == tmp_path / "home" / "sweeps" / "other"


@pytest.mark.parametrize("measure", ["text_classification", "token_classification"])
@pytest.mark.parametrize("field", ["train", "test"])
def test_labelled_texts_lie_in_the_folder(field: str, measure: str, data: Path) -> None:
    def sweep(path: str) -> dict[str, Any]:
        texts = {"train": "sub", field: path}
        return {"evaluation": {measure: [{"data": texts}]}}

    (task,) = allowed(sweep("sub"), data)["evaluation"][measure]
    assert task["data"][field] == str(data / "sub")
    for outside in ("../secret.jsonl", "~/secret.jsonl", "/etc/passwd"):
        with pytest.raises(ConfigurationError, match=measure):
            allowed(sweep(outside), data)


@pytest.mark.parametrize("field", ["train", "dev", "test", "slots"])
def test_tweets_and_their_slots_lie_in_the_folder(field: str, data: Path) -> None:
    def sweep(path: str) -> dict[str, Any]:
        task = {"slots": path} if field == "slots" else {"data": {"source": "files", field: path}}
        return {"evaluation": {"slot_filling": [task]}}

    (task,) = allowed(sweep("sub"), data)["evaluation"]["slot_filling"]
    assert str(data / "sub") in (task.get("slots"), task.get("data", {}).get(field))
    for outside in ("../secret.txt", "~/secret.yaml", "/etc"):
        with pytest.raises(ConfigurationError, match="slot_filling"):
            allowed(sweep(outside), data)
