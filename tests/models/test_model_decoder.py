"""Finding the blocks of different architectures, and refusing what would be miscounted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError

MakeModel = Callable[..., Any]


@pytest.mark.parametrize(
    ("kind", "blocks_name", "layers_of_a_block"),
    [
        ("llama", "model.layers", 7),
        ("tied", "model.layers", 7),
        ("gpt_neox", "gpt_neox.layers", 4),
        ("opt", "model.decoder.layers", 6),
        ("gpt2", "transformer.h", 4),
        ("gemma2", "model.layers", 7),
        ("cohere", "model.layers", 7),
        ("granite", "model.layers", 7),
    ],
)
def test_finds_the_blocks(
    make_model: MakeModel, kind: str, blocks_name: str, layers_of_a_block: int
) -> None:
    model = make_model(kind)
    decoder = describe(model)
    assert decoder.model is model
    assert decoder.blocks_name == blocks_name
    assert len(decoder.blocks) == 2
    assert len(decoder.layers()) == 2 * layers_of_a_block


def test_text_model_inside_a_larger_one(make_config: Callable[..., Any]) -> None:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration

    text = make_config("gemma2").to_dict()
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 28,
        "patch_size": 14,
    }
    wanted = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim")
    wanted += ("num_attention_heads", "num_key_value_heads", "max_position_embeddings")
    config = Gemma3Config(
        text_config={name: text[name] for name in wanted},
        vision_config=vision,
        mm_tokens_per_image=4,
    )
    decoder = describe(Gemma3ForConditionalGeneration(config))
    assert decoder.blocks_name == "model.language_model.layers"


def test_refuses_matrices_that_are_no_linear_layers() -> None:
    from transformers import Llama4ForCausalLM, Llama4TextConfig

    sizes = {"hidden_size": 32, "intermediate_size": 48, "intermediate_size_mlp": 48}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    config = Llama4TextConfig(
        **sizes, **heads, vocab_size=97, num_hidden_layers=2, num_local_experts=2, pad_token_id=0
    )
    # Its experts multiply every token, with the router's factor on the input.
    with pytest.raises(UnsupportedModelError, match=r"experts\.gate_up_proj \(2×32×96\) in block"):
        describe(Llama4ForCausalLM(config))


@pytest.mark.parametrize(
    ("kind", "layer"), [("mixtral", "mlp.experts.down_proj.1"), ("mamba", "mixer.x_proj")]
)
def test_experts_and_state_spaces_have_linear_layers(
    make_model: MakeModel, kind: str, layer: str
) -> None:
    decoder = describe(make_model(kind))
    assert f"{decoder.blocks_name}.0.{layer}" in decoder.layers()


def test_refuses_encoder_decoder_models() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=97, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)
    with pytest.raises(UnsupportedModelError, match="encoder-decoder"):
        describe(T5ForConditionalGeneration(config))


def test_refuses_shared_blocks_empty_blocks_and_no_blocks(make_model: MakeModel) -> None:
    model = make_model("llama")
    model.model.layers[1].mlp.up_proj.weight = model.model.layers[0].mlp.up_proj.weight
    with pytest.raises(UnsupportedModelError, match="block 1 shares weights"):
        describe(model)
    model.model.layers = nn.ModuleList([nn.LayerNorm(3), nn.LayerNorm(3)])
    with pytest.raises(UnsupportedModelError, match="block 0 has no linear layers"):
        describe(model)
    model.model.layers = nn.ModuleList([nn.Linear(3, 3)])
    with pytest.raises(UnsupportedModelError, match="no list of 2 decoder blocks"):
        describe(model)


def test_ignores_lists_of_the_same_length_with_less_in_them(make_model: MakeModel) -> None:
    model = make_model("llama")
    model.model.extras = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    assert describe(model).blocks_name == "model.layers"


def test_a_vector_is_no_matrix(make_model: MakeModel) -> None:
    model = make_model("llama")
    model.model.layers[0].scale = nn.Parameter(torch.ones(3))
    describe(model)
    model.model.layers[0].scale = nn.Parameter(torch.ones(3, 5))
    with pytest.raises(UnsupportedModelError, match=r"scale \(3×5\) in block 0"):
        describe(model)
