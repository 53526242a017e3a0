"""Heads and channels are found where removing them means what it should, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from structured import ARCHITECTURES, ids, masked, model_of, random_kept
from torch import nn

from tasks.models.architecture.decoder import describe
from tasks.pruning.core.structure import BlockStructure


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_sizes_come_from_the_model(kind: str) -> None:
    structure = describe(model_of(kind)).structure
    assert structure is not None
    assert structure.groups * structure.queries == 6
    assert structure.groups == (6 if kind in ("opt", "single_queries") else 3)
    assert structure.head_dim == (16 if "head_dim" in ARCHITECTURES[kind][1] else 8)
    assert structure.channels == 40


def test_names() -> None:
    assert describe(model_of("llama")).structure == BlockStructure(
        query="self_attn.q_proj",
        key="self_attn.k_proj",
        value="self_attn.v_proj",
        attention_out="self_attn.o_proj",
        channel_in=("mlp.gate_proj", "mlp.up_proj"),
        channel_out="mlp.down_proj",
        groups=3,
        queries=2,
        head_dim=16,
        channels=40,
    )


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_masked_weights_equal_gates_in_the_running_model(kind: str) -> None:
    """Zero weights mean the same as zeroing a head's or channel's contribution in place."""
    model = model_of(kind)
    decoder, kept = describe(model), random_kept(model, seed=0)
    structure = decoder.structure
    assert structure is not None

    def gate(kept_I: torch.Tensor) -> Callable[..., Any]:
        return lambda _, args: (args[0] * kept_I,)

    handles = []
    for block, entry in zip(decoder.blocks, kept, strict=True):
        for name, kept_I in (
            (structure.attention_out, structure.query_features(entry.groups_G)),
            (structure.channel_out, entry.channels_C),
        ):
            handles.append(block.get_submodule(name).register_forward_pre_hook(gate(kept_I)))
    gated = model(ids()).logits
    for handle in handles:
        handle.remove()
    assert torch.allclose(masked(model, kept)(ids()).logits, gated, atol=1e-5)
    assert not torch.allclose(model(ids()).logits, gated, atol=1e-2)


@pytest.mark.parametrize("kind", ["gpt_neox", "gpt2"])
def test_fused_projections_have_none(make_model: Callable[..., Any], kind: str) -> None:
    assert describe(make_model(kind)).structure is None


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("Olmo2", {}),  # a norm over all heads' queries
        ("Phi3", {}),  # fused queries, keys and values
        ("StableLm", {"qk_layernorm": True}),  # a norm of its own for each head
        ("BitNet", {}),  # norms before the last matrices
        ("DiffLlama", {}),  # heads in pairs
        ("Apertus", {}),  # an activation with parameters
    ],
)
def test_what_depends_on_heads_or_channels_has_none(name: str, changes: dict[str, Any]) -> None:
    settings = {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "pad_token_id": 2,
    }
    config = getattr(transformers, f"{name}Config")(**(settings | changes))
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    assert describe(model).structure is None


class _OtherLinear(nn.Linear):
    """Might hold its weight in another form."""


def _widen(block: nn.Module) -> None:
    block.mlp.gate_proj = nn.Linear(48, 44, bias=False)  # type: ignore[union-attr]
    block.mlp.up_proj = nn.Linear(48, 44, bias=False)  # type: ignore[union-attr]
    block.mlp.down_proj = nn.Linear(44, 48, bias=False)  # type: ignore[union-attr]


CHANGES: dict[str, Callable[[Any], None]] = {
    "a block of another width": _widen,
    "gate and up that differ": lambda b: setattr(b.mlp, "up_proj", nn.Linear(48, 44, bias=False)),
    "another linear layer": lambda b: setattr(b, "adapter", nn.Linear(48, 48)),
    "another class": lambda b: setattr(b.self_attn, "q_proj", _OtherLinear(48, 96, bias=False)),
    "a sink for each head": lambda b: setattr(b.self_attn, "sinks", nn.Parameter(torch.ones(6))),
    "a scale for each channel": lambda b: setattr(b.mlp, "scale", nn.Parameter(torch.ones(40))),
    "slopes for each head": lambda b: b.self_attn.register_buffer("slopes", torch.ones(6)),
    "no head size": lambda b: delattr(b.self_attn, "head_dim"),
    "other groups": lambda b: setattr(b.self_attn, "num_key_value_groups", 3),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("block", [0, 2])
def test_one_block_that_does_not_fit(change: str, block: int) -> None:
    model = model_of("llama")
    CHANGES[change](model.model.layers[block])
    assert describe(model).structure is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_attention_heads", 12), ("num_key_value_heads", 2), ("num_kv_shared_layers", 1)],
)
def test_a_configuration_that_does_not_fit(name: str, value: int) -> None:
    model = model_of("llama")
    setattr(model.config, name, value)
    assert describe(model).structure is None
