"""Resolving what a sweep file calls a model: every form, every mistake."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.models.examine import contents_of
from tasks.models.prepare import model_step
from tasks.models.sources import hub_models, sources
from tasks.models.sources.sources import ResolvedModel, fetch, resolve_model
from tasks.store.context import Context
from tasks.store.store import Store

MakeFolder = Callable[..., Path]


def resolve(spec: str, base: Path, **options: Any) -> ResolvedModel:
    settings: dict[str, Any] = {"trust": Trust(), "digest_cache": None} | options
    return resolve_model(spec, field="models[0]", base=base, **settings)


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything that would ask the hub fails the test."""

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("a local name was sent to the hub")

    monkeypatch.setattr(sources, "resolve_hub", refuse)
    monkeypatch.setattr(hub_models, "_ask", refuse)


def text(key: str) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode()


def gguf_file(path: Path, *, tokenizer: bool = True, pairs: bytes = b"", count: int = 0) -> Path:
    """A GGUF of one 4 × 8 float32 tensor; ``pairs`` is extra metadata."""
    if tokenizer:
        pairs += text("tokenizer.ggml.model") + struct.pack("<I", 8) + text("gpt2")
        # An array of strings and one of numbers must be skipped right.
        pairs += text("words") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("bc")
        pairs += text("scores") + struct.pack("<IIQ", 9, 6, 3) + bytes(12)
        count += 3
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, count) + pairs
    head += text("weight") + struct.pack("<IQQIQ", 2, 4, 8, 0, 0)
    path.write_bytes(head + bytes(-len(head) % 32) + bytes(4 * 8 * 4))
    return path


class TestFolders:
    def test_digest_is_of_content_not_of_place(
        self, make_folder: MakeFolder, tmp_path: Path
    ) -> None:
        folder = make_folder()
        copied = shutil.copytree(folder, tmp_path / "elsewhere" / "other")
        (copied / "README.md").write_text("of no weight")
        first, second = resolve("./model", tmp_path), resolve(str(copied), tmp_path)
        assert first.kind == "folder"
        assert Path(first.path) == folder
        assert first.spec == "./model"
        assert first.digest == second.digest
        assert len(first.digest) == 64

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
    def test_digest_follows_every_file_that_matters(
        self, make_folder: MakeFolder, tmp_path: Path, name: str
    ) -> None:
        folder = make_folder()
        before = resolve("model", tmp_path).digest
        content = bytearray((folder / name).read_bytes())
        if name == "model.safetensors":
            content[-1] ^= 1
        else:
            content += b"\n"
        (folder / name).write_bytes(content)
        assert resolve("model", tmp_path).digest != before

    def test_code_counts_only_where_it_may_run(
        self, make_folder: MakeFolder, tmp_path: Path
    ) -> None:
        folder = make_folder()
        before = resolve("model", tmp_path).digest
        (folder / "modeling.py").write_text("pass")
        assert resolve("model", tmp_path).digest == before
        assert resolve("model", tmp_path, trust=Trust(remote_code=True)).digest != before

    def test_shards_are_checked(self, make_folder: MakeFolder, tmp_path: Path) -> None:
        folder = make_folder(max_shard_size="20KB")
        resolve("model", tmp_path)
        shard = sorted(folder.glob("model-*.safetensors"))[1]
        shard.unlink()
        with pytest.raises(ConfigurationError, match=f"1 are missing: {shard.name}"):
            resolve("model", tmp_path)

    def test_a_file_that_never_begins_is_not_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.gguf")
        with pytest.raises(ConfigurationError, match="a device, a pipe or a socket"):
            resolve("pipe.gguf", tmp_path)

    @pytest.mark.parametrize("cut", [1, 1000])
    def test_truncated_weights(self, make_folder: MakeFolder, tmp_path: Path, cut: int) -> None:
        path = make_folder() / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-cut])
        with pytest.raises(ConfigurationError, match=r"model\.safetensors is damaged.*promises"):
            resolve("model", tmp_path)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "do not hold a safetensors header"),
            (b"\x10" + bytes(7) + b"{", "do not hold a safetensors header"),
            (b"\x02" + bytes(7) + b"[]", "header cannot be read"),
            (b"\x02" + bytes(7) + b"{}", "holds no tensors"),
            (b"version https://git-lfs/spec/v1\noid sha256:0\nsize 3\n", "Git LFS pointer"),
        ],
    )
    def test_damaged_weights(
        self, make_folder: MakeFolder, tmp_path: Path, content: bytes, reason: str
    ) -> None:
        (make_folder() / "model.safetensors").write_bytes(content)
        with pytest.raises(ConfigurationError, match=reason):
            resolve("model", tmp_path)

    def test_pickle_weights_need_trust(self, make_folder: MakeFolder, tmp_path: Path) -> None:
        folder = make_folder()
        (folder / "model.safetensors").unlink()
        torch.save({"weight": torch.ones(3)}, folder / "pytorch_model.bin")
        with pytest.raises(ConfigurationError, match=r"trust\.pickle_weights=true"):
            resolve("model", tmp_path)
        trusted = resolve("model", tmp_path, trust=Trust(pickle_weights=True))
        assert trusted.kind == "folder"
        cut = (folder / "pytorch_model.bin").read_bytes()[:-40]
        (folder / "pytorch_model.bin").write_bytes(cut)
        with pytest.raises(ConfigurationError, match="archive is cut off"):
            resolve("model", tmp_path, trust=Trust(pickle_weights=True))

    @pytest.mark.parametrize(
        ("broken", "reason"),
        [
            ({"config.json": None}, r"needs config\.json"),
            ({"config.json": "{"}, r"config\.json cannot be read"),
            ({"config.json": "[1]"}, "must hold a JSON object"),
            ({"config.json": '{"is_encoder_decoder": true}'}, "encoder-decoder"),
            (
                {"config.json": '{"quantization_config": {"quant_method": "gptq"}}'},
                r"quantised \(gptq\)",
            ),
            ({"model.safetensors": None}, "needs weights"),
            ({"tokenizer.json": None}, "needs a tokenizer"),
            ({"model.safetensors": None, "consolidated.safetensors": "x"}, "it holds consolidated"),
            (
                {"model.safetensors": None, "model.safetensors.index.json": "{}"},
                "lists no weights",
            ),
        ],
    )
    def test_incomplete(
        self,
        make_folder: MakeFolder,
        tmp_path: Path,
        broken: dict[str, str | None],
        reason: str,
    ) -> None:
        folder = make_folder()
        for name, content in broken.items():
            if content is None:
                (folder / name).unlink()
            else:
                (folder / name).write_text(content)
        with pytest.raises(ConfigurationError, match=reason) as caught:
            resolve("model", tmp_path)
        assert caught.value.field == "models[0]"
        assert caught.value.given == "model"


class TestGguf:
    def test_whole(self, tmp_path: Path) -> None:
        path = gguf_file(tmp_path / "tiny.gguf")
        found = resolve("tiny.gguf", tmp_path)
        assert (found.kind, found.path, found.revision) == ("gguf", str(path), "")

    def test_cut_anywhere(self, tmp_path: Path) -> None:
        whole = gguf_file(tmp_path / "tiny.gguf").read_bytes()
        for end in (*range(0, len(whole) - 1, 7), len(whole) - 1):
            (tmp_path / "tiny.gguf").write_bytes(whole[:end])
            with pytest.raises(ConfigurationError, match=r"no whole GGUF file|empty"):
                resolve("tiny.gguf", tmp_path)

    def test_not_gguf(self, tmp_path: Path) -> None:
        (tmp_path / "tiny.gguf").write_bytes(b"PK" + bytes(100))
        with pytest.raises(ConfigurationError, match="letters GGUF"):
            resolve("tiny.gguf", tmp_path)

    @pytest.mark.parametrize("version", [1, 9, 0x03000000])
    def test_unknown_version(self, tmp_path: Path, version: int) -> None:
        path = gguf_file(tmp_path / "tiny.gguf")
        content = path.read_bytes()
        path.write_bytes(content[:4] + struct.pack("<I", version) + content[8:])
        with pytest.raises(ConfigurationError, match=f"version is {version}"):
            resolve("tiny.gguf", tmp_path)

    def test_split_or_without_tokenizer(self, tmp_path: Path) -> None:
        parts = text("split.count") + struct.pack("<IH", 2, 3)
        gguf_file(tmp_path / "part.gguf", pairs=parts, count=1)
        with pytest.raises(ConfigurationError, match="split GGUF"):
            resolve("part.gguf", tmp_path)
        gguf_file(tmp_path / "bare.gguf", tokenizer=False)
        with pytest.raises(ConfigurationError, match="holds no tokenizer"):
            resolve("bare.gguf", tmp_path)


class TestNames:
    @pytest.mark.parametrize(
        "spec", ["./gone", "../gone", "/gone", "~/gone-model", "a\\b", "gone.gguf", "GONE.GGUF"]
    )
    def test_paths_never_reach_the_hub(self, tmp_path: Path, spec: str) -> None:
        with pytest.raises(ConfigurationError, match="there is no file or folder"):
            resolve(spec, tmp_path)

    def test_existing_names_are_local(self, tmp_path: Path) -> None:
        (tmp_path / "owner").mkdir()
        (tmp_path / "owner" / "weights.bin").write_bytes(b"x")
        with pytest.raises(ConfigurationError, match="a folder with config"):
            resolve("owner/weights.bin", tmp_path)

    def test_home_is_expanded(
        self, make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_folder()
        monkeypatch.setenv("HOME", str(tmp_path))
        assert resolve("~/model", Path("/")).path == str(tmp_path / "model")


def test_fetch_leaves_local_models_alone(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder()
    found = resolve("model", tmp_path)
    assert fetch(found, field="models[0]", trust=Trust()) is found
    made = resolve("tiny-random", tmp_path)
    assert fetch(made, field="models[0]", trust=Trust()) is made
    shutil.rmtree(folder)
    with pytest.raises(ConfigurationError, match="not there any more"):
        fetch(found, field="models[0]", trust=Trust())


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_folder_that_changed_is_refused(
    make_folder: MakeFolder, tmp_path: Path, name: str
) -> None:
    folder = make_folder()
    step = model_step(resolve("model", tmp_path))
    context = Context(Store(tmp_path / "home"))
    for path in folder.iterdir():  # copied by another's hand: other times, the same contents
        os.utime(path, (1, 1))
    (folder / "training.log").write_text("Not the model's.")
    assert context.make(step).path == folder
    content = (folder / name).read_bytes()
    if name == "model.safetensors":
        (folder / name).write_bytes(content[:-4] + b"abcd")
    else:
        (folder / name).write_bytes(content + b"\n")
    with pytest.raises(ConfigurationError, match="they have changed since") as caught:
        context.make(step)
    assert "Run the sweep again" in str(caught.value)
    (folder / name).write_bytes(content)
    assert context.make(step).path == folder


class TestWhatIsNoModel:
    def test_an_adapter_is_merged_first(self, make_folder: MakeFolder, tmp_path: Path) -> None:
        folder = make_folder()
        (folder / "config.json").unlink()
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        with pytest.raises(ConfigurationError, match=r"adapter \(LoRA\).*merge_and_unload"):
            resolve("model", tmp_path)

    def test_an_adapter_beside_a_model_is_not_left_out(
        self, make_folder: MakeFolder, tmp_path: Path
    ) -> None:
        (make_folder() / "adapter_config.json").write_text("{}")
        with pytest.raises(ConfigurationError, match="adapter"):
            resolve("model", tmp_path)

    @pytest.mark.parametrize("inside", ["snapshots/0123abc", "checkpoint-500"])
    def test_the_folder_above_names_the_model_inside(
        self, make_folder: MakeFolder, tmp_path: Path, inside: str
    ) -> None:
        above = tmp_path / "models--org--name"
        (above / inside).parent.mkdir(parents=True)
        shutil.move(make_folder(), above / inside)
        with pytest.raises(ConfigurationError, match=f"Did you mean .*{inside}"):
            resolve("./models--org--name", tmp_path)

    def test_side_branches_are_not_left_out(self, make_folder: MakeFolder, tmp_path: Path) -> None:
        (make_folder() / "slorb.safetensors").write_bytes(b"x")
        with pytest.raises(ConfigurationError, match="side branches"):
            resolve("model", tmp_path)


@pytest.mark.parametrize("value", [None, {}])
def test_a_quantisation_that_is_none(
    make_folder: MakeFolder, tmp_path: Path, value: dict[str, str] | None
) -> None:
    path = make_folder() / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": value}))
    assert resolve("model", tmp_path).kind == "folder"


@pytest.mark.parametrize(
    ("kind", "config"), [("mxfp4", "Mxfp4Config"), ("fp8", "FineGrainedFP8Config")]
)
def test_what_is_published_quantised_alone_can_be_dequantised(
    tmp_path: Path, kind: str, config: str
) -> None:
    import transformers

    given, plain = _quantised(kind, tmp_path / "model"), tmp_path / "plain"
    with pytest.raises(ConfigurationError, match=rf"quantised \({kind}\)") as caught:
        resolve("model", tmp_path)
    assert f"quantization_config={config}(dequantize=True), dtype=" in caught.value.hint
    # As the message says.
    option = getattr(transformers, config)(dequantize=True)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(
        given, quantization_config=option, dtype="auto"
    )
    loaded.save_pretrained(plain)
    (plain / "tokenizer.json").write_text("{}")
    assert resolve("plain", tmp_path).kind == "folder"
    assert contents_of(plain, Trust(), (), field="models[0]", given="plain").vocabulary == 64


def _quantised(kind: str, out: Path) -> Path:
    """A tiny model with experts' or linear layers' weights in the form of ``kind``."""
    import transformers

    sizes = {"vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 1, "head_dim": 32}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 64}
    tokens = {"eos_token_id": 1, "pad_token_id": 0}
    if kind == "fp8":
        settings: Any = transformers.LlamaConfig(**sizes, **tokens)
        how: dict[str, Any] = {"weight_block_size": [64, 64], "activation_scheme": "dynamic"}
    else:
        experts = {"num_local_experts": 2, "num_experts_per_tok": 1}
        settings = transformers.GptOssConfig(**sizes, **tokens, **experts)
        how = {"modules_to_not_convert": ["lm_head", "model.embed_tokens"]}
    model = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)
    state: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        if kind == "fp8" and name.endswith("_proj.weight"):
            state[name] = value.to(torch.float8_e4m3fn)
            blocks = [-(-size // 64) for size in value.shape]
            state[f"{name}_scale_inv"] = torch.ones(blocks)
        elif kind == "mxfp4" and name.endswith("experts.gate_up_proj"):
            state[f"{name}_blocks"] = torch.zeros(2, 128, 2, 16, dtype=torch.uint8)
            state[f"{name}_scales"] = torch.full((2, 128, 2), 127, dtype=torch.uint8)
        elif kind == "mxfp4" and name.endswith("experts.down_proj"):
            state[f"{name}_blocks"] = torch.zeros(2, 64, 2, 16, dtype=torch.uint8)
            state[f"{name}_scales"] = torch.full((2, 64, 2), 127, dtype=torch.uint8)
        else:
            state[name] = value.clone()
    model.config.save_pretrained(out)
    save_file(state, out / "model.safetensors", metadata={"format": "pt"})
    path = out / "config.json"
    content = json.loads(path.read_text()) | {"quantization_config": {"quant_method": kind, **how}}
    path.write_text(json.dumps(content))
    (out / "tokenizer.json").write_text("{}")
    return out


def test_a_quantisation_under_its_former_name(make_folder: MakeFolder, tmp_path: Path) -> None:
    path = make_folder() / "config.json"
    former = {"compression_config": {"quant_method": "compressed-tensors"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | former))
    with pytest.raises(ConfigurationError, match=r"quantised \(compressed-tensors\)"):
        resolve("model", tmp_path)


def test_a_quantisation_of_the_text_part(make_folder: MakeFolder, tmp_path: Path) -> None:
    path = make_folder() / "config.json"
    inner = {"text_config": {"quantization_config": {"quant_method": "awq"}}}
    path.write_text(json.dumps(json.loads(path.read_text()) | inner))
    with pytest.raises(ConfigurationError, match=r"quantised \(awq\)"):
        resolve("model", tmp_path)
