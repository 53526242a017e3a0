"""Heads and channels: how a decoder block's matrices hang together, and what removing them means.

A *group* is one key/value head with the query heads that attend through it; a *channel* is one
neuron of the MLP. Removing a group removes rows of the query, key and value projections and columns
of the output projection; removing a channel removes rows of the matrices that feed the activation
and a column of the one that follows it. A model whose removed rows, columns and biases are zero
computes exactly what the smaller model computes.

Shapes: ``G`` groups, ``C`` channels, ``O`` out-features, ``I`` in-features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from tasks.pruning.core.blocks import Decoder


@dataclass(frozen=True, kw_only=True)
class BlockStructure:
    """Names inside a block, and the sizes that all blocks share.

    Attributes:
        query, key, value: projections whose rows are heads; each an ``nn.Linear``.
        attention_out: the projection whose columns are the query heads' features.
        channel_in: the matrices whose rows are channels: gate and up, or up alone.
        channel_out: the matrix whose columns are channels.
        groups: key/value heads.
        queries: query heads of each group.
        head_dim: features of a head.
        channels: of the MLP.
    """

    query: str
    key: str
    value: str
    attention_out: str
    channel_in: tuple[str, ...]
    channel_out: str
    groups: int
    queries: int
    head_dim: int
    channels: int

    def query_features(self, groups_G: Tensor) -> Tensor:
        """``G`` flags or factors → one for each feature of the attention's output."""
        return groups_G.repeat_interleave(self.queries * self.head_dim)

    def key_features(self, groups_G: Tensor) -> Tensor:
        """``G`` flags or factors → one for each row of the key and value projections."""
        return groups_G.repeat_interleave(self.head_dim)


@dataclass(frozen=True)
class Removable:
    """The blocks that may lose groups, and those that may lose channels: nothing there is excluded.

    Attributes:
        groups_L, channels_L: True for the blocks that may.
    """

    groups_L: Tensor
    channels_L: Tensor


@dataclass(frozen=True)
class Kept:
    """What one block keeps.

    Attributes:
        groups_G: True for the key/value groups that stay.
        channels_C: True for the MLP channels that stay.
    """

    groups_G: Tensor
    channels_C: Tensor

    def __post_init__(self) -> None:
        if self.groups_G.dtype != torch.bool or self.channels_C.dtype != torch.bool:
            raise TypeError("kept groups and channels are boolean tensors")
        if not (self.groups_G.any() and self.channels_C.any()):
            raise ValueError("a block keeps at least one group and one channel")


def structure_of(decoder: Decoder) -> BlockStructure:
    """The decoder's structure.

    Raises:
        ValueError: when the architecture's is not known.
    """
    if decoder.structure is None:
        raise ValueError(
            "heads and channels can be removed where a block has separate query, key and value "
            "projections, one MLP, and no other matrix that belongs to its heads, as in LLaMA-like "
            f"decoders, BERT and DeBERTa-v3; {type(decoder.model).__name__} is none that is "
            "known. Methods that prune single weights, such as wanda, need no such structure"
        )
    return decoder.structure


def removable(decoder: Decoder) -> Removable:
    """Where ``decoder.exclude`` lets heads and channels go.

    A group reaches into all four projections and a channel into all matrices of the MLP: a block
    with one of them excluded keeps all its groups, or all its channels.

    Raises:
        ValueError: when no block may lose either.
    """
    structure = structure_of(decoder)
    names = [f"{decoder.blocks_name}.{index}" for index in range(len(decoder.blocks))]
    attention = (structure.query, structure.key, structure.value, structure.attention_out)
    mlp = (*structure.channel_in, structure.channel_out)
    groups_L, channels_L = (
        torch.tensor([not any(decoder.excludes(f"{b}.{n}") for n in inside) for b in names])
        for inside in (attention, mlp)
    )
    if not (groups_L.any() or channels_L.any()):
        raise ValueError(
            "exclude leaves no heads or channels to remove: a block keeps its heads where a query, "
            "key, value or output projection is excluded, and its channels where a matrix of its "
            "MLP is"
        )
    return Removable(groups_L, channels_L)


def masked_block(block: nn.Module, structure: BlockStructure, kept: Kept) -> dict[str, Tensor]:
    """A block's full-size weights and biases with what is removed set to zero.

    Returns:
        Parameter name inside the block → new tensor, for every linear layer of heads and channels.
    """
    groups_G = kept.groups_G
    rows = {
        structure.query: structure.query_features(groups_G),
        structure.key: structure.key_features(groups_G),
        structure.value: structure.key_features(groups_G),
        **dict.fromkeys(structure.channel_in, kept.channels_C),
    }
    columns = {
        structure.attention_out: structure.query_features(groups_G),
        structure.channel_out: kept.channels_C,
    }
    replaced: dict[str, Tensor] = {}
    for name, kept_O in rows.items():
        module = block.get_submodule(name)
        assert isinstance(module, nn.Linear)
        factor_O = kept_O.to(module.weight)
        replaced[f"{name}.weight"] = module.weight.detach() * factor_O[:, None]
        if module.bias is not None:
            replaced[f"{name}.bias"] = module.bias.detach() * factor_O
    for name, kept_I in columns.items():
        module = block.get_submodule(name)
        assert isinstance(module, nn.Linear)
        replaced[f"{name}.weight"] = module.weight.detach() * kept_I.to(module.weight)
    return replaced


def masked_weights(decoder: Decoder, kept: Sequence[Kept]) -> Iterator[tuple[str, Tensor]]:
    """As :func:`masked_block` for the whole decoder: full parameter name and weight, in turn."""
    structure = structure_of(decoder)
    for index, (block, entry) in enumerate(zip(decoder.blocks, kept, strict=True)):
        for name, weight in masked_block(block, structure, entry).items():
            yield f"{decoder.blocks_name}.{index}.{name}", weight
