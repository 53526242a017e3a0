"""A checkpoint is its source but for the pruned weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from configs.trust import Trust
from tasks.models.examine import unread_tensors
from tasks.models.load import load_model
from tasks.models.saved.save import save_checkpoint
from tasks.models.saved.source_side import file_names
from tests.models.conftest import tokenizer

MakeFolder = Callable[..., Path]
UP = "model.layers.0.mlp.up_proj.weight"


def load(folder: Path, **trust: bool) -> Any:
    return load_model(folder, torch.float32, torch.device("cpu"), Trust(**trust))


def saved(folder: Path, out: Path, dtype: torch.dtype = torch.float32, **trust: bool) -> Path:
    """The folder's model with half of one matrix set to zero."""
    dense = load(folder, **trust)
    weight = dense.get_parameter(UP).detach() * (torch.arange(32) % 2)
    unread = unread_tensors(folder, Trust(**trust))
    save_checkpoint(dense, folder, {UP: weight}, out, dtype=dtype, metadata={}, unread=unread)
    return out


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(path)
    return found


def configure(folder: Path, **changes: Any) -> dict[str, Any]:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(config))
    return config


def test_a_configuration_that_loads_and_cannot_be_saved(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    folder = make_folder()
    wanted = configure(folder, output_attentions=True, something_of_its_own={"a": [1]})
    out = saved(folder, tmp_path / "out")
    assert json.loads((out / "config.json").read_text()) == wanted
    assert torch.equal(load(out).get_parameter(UP)[:, 0], torch.zeros(48))


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
def test_only_the_dtype_changes_under_the_name_that_it_has(
    make_folder: MakeFolder, tmp_path: Path, key: str
) -> None:
    folder = make_folder()
    config = configure(folder)
    config.pop("dtype")
    (folder / "config.json").write_text(json.dumps(config | {key: "float32"}))
    out = saved(folder, tmp_path / "out", torch.bfloat16)
    assert json.loads((out / "config.json").read_text()) == config | {key: "bfloat16"}


def test_the_dense_model_can_still_save_its_configuration(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    folder = make_folder()
    dense = load(folder)
    save_checkpoint(dense, folder, {}, tmp_path / "out", dtype=torch.float32, metadata={})
    dense.config.save_pretrained(tmp_path / "config")
    assert (tmp_path / "config" / "config.json").is_file()


def test_every_file_of_the_input_side(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder()
    files = {
        "preprocessor_config.json": '{"size": 28}',
        "processor_config.json": "{}",
        "chat_template.jinja": "{{ messages }}",
        "additional_chat_templates/tools.jinja": "{{ tools }}",
        "LICENSE": "of the source",
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    for name in ("optimizer.pt", "trainer_state.json", "README.md", "adapter.onnx"):
        (folder / name).write_text("of training")
    out = saved(folder, tmp_path / "out")
    assert {name: (out / name).read_text() for name in files} == files
    assert not {"optimizer.pt", "trainer_state.json", "adapter.onnx"} & {
        path.name for path in out.iterdir()
    }


@pytest.mark.parametrize("shards", ["1GB", "20KB"])
def test_unread_tensors_are_carried_over_as_they_are(
    make_folder: MakeFolder, tmp_path: Path, shards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.models.saved.save._SHARD_SIZE", shards)
    folder = make_folder()
    heads = {"mtp.fc.weight": torch.randn(4, 8).half(), "score.bias": torch.arange(3)}
    save_file(load_file(folder / "model.safetensors") | heads, folder / "model.safetensors")
    out = saved(folder, tmp_path / "out")
    source, written = tensors(folder), tensors(out)
    assert written.keys() == source.keys()
    assert all(torch.equal(written[n], source[n]) for n in source if n != UP)
    assert written["mtp.fc.weight"].dtype == torch.float16
    index = json.loads((out / "model.safetensors.index.json").read_text())["weight_map"]
    for name, file in index.items():
        with safe_open(out / file, framework="pt") as stream:
            assert name in stream.keys()  # noqa: SIM118
    assert index.keys() == written.keys()
    assert unread_tensors(out, Trust()) == tuple(sorted(heads))
    assert torch.equal(load(out).get_parameter(UP), written[UP])


def test_weights_that_trust_leaves_out_stay_in_the_files(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    folder, name = make_folder(), "model.layers.0.self_attn.q_proj.bias"
    state = load_file(folder / "model.safetensors") | {name: torch.ones(32)}
    save_file(state, folder / "model.safetensors")
    out = saved(folder, tmp_path / "out", unread_weights=True)
    assert torch.equal(tensors(out)[name], torch.ones(32))


def test_names_are_those_of_the_source(tmp_path: Path) -> None:
    """A vision-language model calls its parameters otherwise than its files do."""
    import transformers

    text = {
        "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config = transformers.Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4, boi_token_index=5,
        eoi_token_index=6, image_token_index=7,
    )  # fmt: skip
    folder, out = tmp_path / "model", tmp_path / "out"
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    dense = load(folder)
    own = "model.language_model.layers.0.mlp.up_proj.weight"
    there = "language_model.model.layers.0.mlp.up_proj.weight"
    assert file_names(dense)[own] == there
    replaced = {own: torch.zeros(48, 32)}
    save_checkpoint(dense, folder, replaced, out, dtype=torch.float32, metadata={})
    source, written = tensors(folder), tensors(out)
    assert written.keys() == source.keys()
    assert not written[there].any()
    assert json.loads((out / "config.json").read_text()) == json.loads(
        (folder / "config.json").read_text()
    )
    again = transformers.AutoModelForImageTextToText.from_pretrained(out)
    assert not again.get_parameter(own).any()
    first, second = (transformers.AutoTokenizer.from_pretrained(f) for f in (folder, out))
    assert first("the fox") == second("the fox")


@pytest.mark.parametrize("kind", ["llama", "tied", "gpt2", "gpt_neox", "opt", "gemma2"])
def test_files_of_plain_decoders_use_the_parameters_names(
    make_folder: MakeFolder, kind: str
) -> None:
    head = {"lm_head.weight": "embed_out.weight"} if kind == "gpt_neox" else {}
    assert file_names(load(make_folder(kind))) == head
