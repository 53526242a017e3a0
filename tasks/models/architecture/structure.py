"""Finds the heads and channels of a model's blocks by what the blocks contain.

Nothing is taken on trust from a class name. A block has a structure when its linear layers are
exactly the separate query, key, value and output projections and one MLP, when their shapes agree
with each other, with the attention module and with the configuration, and when nothing else in the
block has a parameter whose meaning depends on heads or channels: a norm over all heads' features, a
norm before the MLP's last matrix, a learned sink per head. Whatever does not fit has none; its
matrices can be pruned, its heads and channels cannot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from tasks.pruning.core.layers import linear_layers
from tasks.pruning.core.structure import BlockStructure


@dataclass(frozen=True)
class _Layout:
    """Names of the linear layers in a block, the attention's inside ``attention``.

    Attributes:
        out: inside the attention, or with its whole name where that has a dot.
        inner: the projections to query, key and value.
        norms: of hidden states, that do not lie in the block itself.
        head_size: what the attention calls the features of a head.
    """

    attention: str
    out: str
    channel_in: tuple[str, ...]
    channel_out: str
    inner: tuple[str, str, str] = ("q_proj", "k_proj", "v_proj")
    norms: tuple[str, ...] = ()
    head_size: str = "head_dim"

    @property
    def projections(self) -> tuple[str, str, str, str]:
        query, key, value = (f"{self.attention}.{name}" for name in self.inner)
        return query, key, value, self.out if "." in self.out else f"{self.attention}.{self.out}"

    @property
    def names(self) -> set[str]:
        return {*self.projections, *self.channel_in, self.channel_out}


_LAYOUTS = (
    # LLaMA and those that follow it: Mistral, Qwen2 and 3, Gemma 1 to 3, Granite, Cohere, …
    _Layout("self_attn", "o_proj", ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),
    # Without a gate: Nemotron, Arcee.
    _Layout("self_attn", "o_proj", ("mlp.up_proj",), "mlp.down_proj"),
    _Layout("self_attn", "o_proj", ("mlp.c_fc",), "mlp.c_proj"),  # StarCoder 2
    _Layout("self_attn", "dense", ("mlp.fc1",), "mlp.fc2"),  # Phi
    _Layout("self_attn", "out_proj", ("fc1",), "fc2"),  # OPT
    _Layout(  # BERT, RoBERTa, ELECTRA
        "attention.self",
        "attention.output.dense",
        ("intermediate.dense",),
        "output.dense",
        inner=("query", "key", "value"),
        norms=("attention.output.LayerNorm", "output.LayerNorm"),
        head_size="attention_head_size",
    ),
    _Layout(  # DeBERTa 2 and 3, where positions go through the projections of tokens
        "attention.self",
        "attention.output.dense",
        ("intermediate.dense",),
        "output.dense",
        inner=("query_proj", "key_proj", "value_proj"),
        norms=("attention.output.LayerNorm", "output.LayerNorm"),
        head_size="attention_head_size",
    ),
    _Layout(
        "attention",
        "out_lin",
        ("ffn.lin1",),
        "ffn.lin2",
        inner=("q_lin", "k_lin", "v_lin"),
        head_size="attention_head_size",
    ),  # DistilBERT
)


def structure_of_model(model: Any, blocks_name: str) -> BlockStructure | None:
    """The structure that all blocks share, or None.

    Args:
        model: a causal language model or an encoder of transformers.
        blocks_name: dotted name of its list of blocks.
    """
    config = model.config.get_text_config(decoder=True)
    if getattr(config, "num_kv_shared_layers", None):
        return None  # a block's keys and values are also those of later blocks
    blocks = model.get_submodule(blocks_name)
    structure = _structure_of_block(blocks[0], config)
    if structure is None:
        return None
    same = all(_structure_of_block(block, config) == structure for block in blocks)
    return structure if same else None


def _structure_of_block(block: nn.Module, config: Any) -> BlockStructure | None:
    layers = linear_layers(block)
    layout = next((layout for layout in _LAYOUTS if layout.names == layers.keys()), None)
    # Subclasses may hold their weight in another form.
    if layout is None or any(type(layer.module) is not nn.Linear for layer in layers.values()):
        return None
    rows_columns = {name: tuple(layer.weight_OI.shape) for name, layer in layers.items()}
    attention = block.get_submodule(layout.attention)
    query, key, value, out = layout.projections
    hidden, (channels, _) = rows_columns[query][1], rows_columns[layout.channel_in[0]]
    head_dim = getattr(attention, layout.head_size, None)
    if not isinstance(head_dim, int) or head_dim < 1:
        return None
    heads, groups = rows_columns[query][0] // head_dim, rows_columns[key][0] // head_dim
    expected = {
        query: (heads * head_dim, hidden),
        key: (groups * head_dim, hidden),
        value: (groups * head_dim, hidden),
        out: (hidden, heads * head_dim),
        **dict.fromkeys(layout.channel_in, (channels, hidden)),
        layout.channel_out: (hidden, channels),
    }
    if rows_columns != expected or not _heads_agree(attention, config, heads, groups):
        return None
    if not _others_are_indifferent(block, layout, hidden, head_dim):
        return None
    return BlockStructure(
        query=query,
        key=key,
        value=value,
        attention_out=out,
        channel_in=layout.channel_in,
        channel_out=layout.channel_out,
        groups=groups,
        queries=heads // groups,
        head_dim=head_dim,
        channels=channels,
    )


def _heads_agree(attention: nn.Module, config: Any, heads: int, groups: int) -> bool:
    """Whether shapes, configuration and attention module name the same numbers of heads."""
    if groups < 1 or heads % groups:
        return False
    if getattr(config, "num_attention_heads", None) != heads:
        return False
    if (getattr(config, "num_key_value_heads", None) or heads) != groups:
        return False
    # Without it, attention takes one key/value head for each query head.
    return getattr(attention, "num_key_value_groups", 1) == heads // groups


def _others_are_indifferent(block: nn.Module, layout: _Layout, hidden: int, head_dim: int) -> bool:
    """Whether all else in the block acts on the hidden states or on one head at a time."""
    if any(buffer.numel() > 1 for buffer in block.buffers()):
        return False
    for name, parameter in block.named_parameters():
        owner = name.rpartition(".")[0]
        if owner in layout.names:
            continue
        parent, _, child = owner.rpartition(".")
        shape = tuple(parameter.shape)
        # A module of a head's own size inside a list would be one of several, each a head's own.
        a_head_s = parent == layout.attention and child.endswith("norm") and shape == (head_dim,)
        beside = (parent == "" and child.endswith("norm")) or owner in layout.norms
        a_norm_s = beside and shape == (hidden,)
        if not (a_head_s or a_norm_s):
            return False
    return True
