"""What headers tell before a weight is read: shapes, missing and unread tensors, architecture."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.models import examine as examination
from tasks.models.errors import UnsupportedModelError
from tasks.models.examine import contents_of
from tasks.models.sources.sources import Contents

MakeFolder = Callable[..., Path]


def contents(folder: Path, **trust: bool) -> Contents:
    return contents_of(folder, Trust(**trust), (), field="models[0]", given="./model")


def add(folder: Path, **shapes: tuple[int, ...]) -> None:
    """More tensors in the folder's weights."""
    path = folder / "model.safetensors"
    state = load_file(path) | {name: torch.ones(shape) for name, shape in shapes.items()}
    save_file(state, path, metadata={"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("kind", ["llama", "tied", "gpt_neox", "opt", "gpt2", "gemma2", "cohere"])
def test_a_whole_folder(make_folder: MakeFolder, kind: str) -> None:
    found = contents(make_folder(kind))
    assert found.unread == ()
    assert found.vocabulary == 97
    assert 32 in found.widths
    assert bool(found.unstructured) == (kind in ("gpt_neox", "gpt2"))


def test_no_value_is_read(make_folder: MakeFolder) -> None:
    path = make_folder() / "model.safetensors"
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    path.write_bytes(content[:header] + b"\xff" * (len(content) - header))  # NaN everywhere
    assert contents(path.parent).vocabulary == 97


def test_other_shapes_than_the_configuration_s(make_folder: MakeFolder) -> None:
    folder = make_folder()
    configure(folder, intermediate_size=56)
    with pytest.raises(ConfigurationError) as caught:
        contents(folder)
    assert caught.value.field == "models[0]"
    said = str(caught.value)
    assert r"model.layers.0.mlp.down_proj.weight has shape (32, 48) in its files" in said
    assert "(32, 56) by its config.json, and 5 others" in said


def test_missing_weights_are_named(make_folder: MakeFolder) -> None:
    folder = make_folder()
    configure(folder, num_hidden_layers=3)
    with pytest.raises(ConfigurationError, match=r"lacks 9 weights.*model\.layers\.2\."):
        contents(folder)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.q_proj.bias",  # switched off by the configuration
        "model.layers.1.self_attn.q_norm.weight",  # of an architecture that has norms there
        "model.layers.2.mlp.up_proj.weight",  # a block that the configuration does not count
        "model.norm.bias",
        "lm_head.bias",
        "model.embed_positions.weight",
        "layers.0.self_attn.q_proj.bias",  # as the base class alone saves it
        "layers.2.mlp.up_proj.weight",
    ],
)
def test_weights_of_the_model_that_nothing_reads(make_folder: MakeFolder, name: str) -> None:
    folder = make_folder()
    add(folder, **{name: (32,)})
    with pytest.raises(ConfigurationError) as caught:
        contents(folder)
    assert name in str(caught.value)
    assert "trust.unread_weights=true" in str(caught.value)
    assert contents(folder, unread_weights=True).unread == (name,)


@pytest.mark.parametrize(
    "name", ["mtp.fc.weight", "model.mtp.layers.0.weight", "v_head.summary.weight", "score.weight"]
)
def test_other_heads_are_told(make_folder: MakeFolder, name: str) -> None:
    folder = make_folder()
    add(folder, **{name: (4, 32)})
    assert contents(folder).unread == (name,)


def test_tables_that_the_model_makes_itself_are_no_news(make_folder: MakeFolder) -> None:
    folder = make_folder()
    add(folder, **{"model.layers.0.self_attn.rotary_emb.inv_freq": (4,)})
    assert contents(folder).unread == ()


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_masks_are_told_from_fused_biases_by_their_shape(
    make_folder: MakeFolder, prefix: str
) -> None:
    """GPT-Neo's files hold its causal masks, under the name of a bias."""
    name = f"{prefix}h.0.attn.attention.bias"
    masks = make_folder("gpt_neo", name="masks")
    biased = make_folder("gpt_neo", name="biased")
    add(masks, **{name: (1, 1, 8, 8)})
    assert contents(masks).unread == ()
    add(biased, **{name: (32,)})
    with pytest.raises(ConfigurationError, match="unread_weights"):
        contents(biased)


def test_a_pickle_that_holds_more_than_tensors(make_folder: MakeFolder) -> None:
    folder = make_folder()
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state | {"step": 3}, folder / "pytorch_model.bin")
    assert contents(folder, pickle_weights=True).unread == ()
    torch.save(state | {"path": folder}, folder / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match="more than tensors"):
        contents(folder, pickle_weights=True)


def test_what_is_no_causal_language_model_is_refused(tmp_path: Path) -> None:
    import transformers

    settings = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    vision = transformers.CLIPVisionConfig(num_attention_heads=2, patch_size=8, **settings)
    transformers.CLIPVisionModel(vision).save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match="has no causal language model of type clip_"):
        contents(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (r"^", "base_model.model.", "merge_and_unload"),
        (r"(q_proj)\.weight", r"\1.lora_A.default.weight", "merge_and_unload"),
        (r"^", "_orig_mod.", "torch.compile had wrapped"),
        (r"^", "module.", "DistributedDataParallel had wrapped"),
        (r"(_proj)\.weight", r"\1.qweight", "quantised weights"),
        (r"(norm)\.weight", r"\1.weight_scale_inv", "quantised weights"),
        (r"mlp\.up_proj\.weight", "mlp.experts.up_proj_blocks", "quantised weights"),
    ],
)
def test_names_tell_what_wrote_them(make_folder: MakeFolder, old: str, new: str, told: str) -> None:
    """Whatever is trusted: scales that are left out make other weights."""
    folder = make_folder()
    path = folder / "model.safetensors"
    renamed = {re.sub(old, new, name): value for name, value in load_file(path).items()}
    save_file(renamed, path, metadata={"format": "pt"})
    with pytest.raises(ConfigurationError, match=told):
        contents(folder, unread_weights=True)


def _vision_language(kind: str) -> Any:
    """A configuration of text and images, of which transformers loads the text's part alone."""
    import transformers

    text = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
    }
    if kind == "llama4":
        text |= {"intermediate_size_mlp": 48, "num_local_experts": 2, "pad_token_id": 0}
        return transformers.Llama4Config(text_config=text)
    text |= dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2)
    text |= dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 8)
    vision = {"hidden_size": 32, "intermediate_size": 48, "depth": 1, "num_heads": 4}
    return transformers.Qwen3_5Config(
        text_config=text, vision_config=vision | {"out_hidden_size": 32}
    )


def test_the_language_model_of_a_vision_language_model_is_saved_first(tmp_path: Path) -> None:
    import transformers

    whole, part = tmp_path / "whole", tmp_path / "part"
    config = _vision_language("qwen3_5")
    transformers.Qwen3_5ForConditionalGeneration(config).save_pretrained(whole)
    with pytest.raises(ConfigurationError, match=r"vision-language .*qwen3_5_text.*save_pret"):
        contents(whole)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(whole, dtype="auto")
    loaded.save_pretrained(part)
    assert contents(part).vocabulary == 64


def test_no_language_model_is_saved_in_vain(tmp_path: Path) -> None:
    """Llama 4's experts cannot be pruned, in whatever folder they lie."""
    _vision_language("llama4").save_pretrained(tmp_path)
    shapes = {"language_model.lm_head.weight": (64, 32)}
    with pytest.raises(UnsupportedModelError, match="not the weight of a linear layer"):
        examination.examine(tmp_path, shapes, Trust())


def test_a_configuration_that_builds_no_model(make_folder: MakeFolder) -> None:
    folder = make_folder()
    configure(folder, num_attention_heads=0)
    with pytest.raises(ConfigurationError, match="this model cannot be used"):
        contents(folder)


def test_pickled_weights_are_examined_where_they_are_trusted(make_folder: MakeFolder) -> None:
    folder = make_folder()
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state | {"lm_head.bias": torch.ones(97)}, folder / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match=r"lm_head\.bias"):
        contents(folder, pickle_weights=True)


def test_heads_are_told_from_the_body() -> None:
    pattern = examination._HEADS
    assert pattern.search("model.mtp.fc.weight")
    assert pattern.search("model.vision_tower.weight")
    assert not pattern.search("model.embed_positions.weight")
    assert not pattern.search("model.layers.0.self_attn.overhead.weight")
