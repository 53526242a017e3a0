"""Makes a model physically smaller: what a block does not keep is cut out of its matrices.

Query, key, value and the MLP's first matrices lose rows (and biases), the attention's output and
the MLP's last matrix lose columns. Blocks end with different widths; their attention reads its
number of heads from the shapes, and the cache of ``generate`` takes those of the keys it is handed.
The configuration keeps the full sizes, from which rotary tables and scaling follow: a cache that is
allocated from the configuration before the first token (``early_initialization``, for exporting)
has too many heads and fails with a mismatch of shapes. ``StaticCache`` in ``generate`` works.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.structure import BlockStructure, Kept

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Model = TypeVar("Model", bound="PreTrainedModel")

_QUERY_HEADS = ("num_heads", "num_attention_heads", "n_heads")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads")
_QUERY_FEATURES = ("embed_dim", "all_head_size")


@dataclass(frozen=True)
class Cut:
    """What stays of a parameter: the indices along one dimension."""

    dimension: int
    index: Tensor

    def of(self, full: Tensor) -> Tensor:
        """That of the full-size parameter, as a tensor of its own."""
        # Indexing columns would leave them strided.
        return full.detach().index_select(self.dimension, self.index.to(full.device))


def compact_(model: Model, kept: Sequence[Kept]) -> Model:
    """Cut every block down to what it keeps, in place, one matrix at a time.

    The result computes what the full-size model with the rest set to zero computes. Works on the
    ``meta`` device, too.

    Returns:
        ``model``.

    Raises:
        UnsupportedModelError: an architecture whose heads and channels are not understood, or
            ``kept`` of another model. Nothing was changed.
    """
    decoder = describe(model)
    structure = require_structure(decoder, kept)
    for block, entry in zip(decoder.blocks, kept, strict=True):
        for _, layer, parameter, cut in _cuts(block, structure, entry):
            full = getattr(layer, parameter)
            left = nn.Parameter(cut.of(full), requires_grad=full.requires_grad)
            setattr(layer, parameter, left)
            layer.out_features, layer.in_features = layer.weight.shape
        _tell_heads(block, structure, int(entry.groups_G.sum()))
    return model


def compact_weights(decoder: Decoder, kept: Sequence[Kept]) -> dict[str, Tensor]:
    """The weights and biases that :func:`compact_` would leave, by parameter name.

    Raises:
        UnsupportedModelError: as there.
    """
    cuts = cuts_of(decoder, kept).items()
    return {name: cut.of(decoder.model.get_parameter(name)) for name, cut in cuts}


def cuts_of(decoder: Decoder, kept: Sequence[Kept]) -> dict[str, Cut]:
    """What :func:`compact_` would leave of the weights and biases that it cuts, by their name.

    Raises:
        UnsupportedModelError: as there.
    """
    structure = require_structure(decoder, kept)
    return {
        f"{decoder.blocks_name}.{number}.{name}.{parameter}": cut
        for number, (block, entry) in enumerate(zip(decoder.blocks, kept, strict=True))
        for name, _, parameter, cut in _cuts(block, structure, entry)
    }


def require_structure(decoder: Decoder, kept: Sequence[Kept]) -> BlockStructure:
    """The decoder's structure, which ``kept`` must fit.

    Raises:
        UnsupportedModelError: there is none, or it does not.
    """
    structure, name = decoder.structure, type(decoder.model).__name__
    if structure is None:
        raise UnsupportedModelError(
            f"{name} cannot be made smaller: its heads and channels are not understood "
            "(LLaMA-like and OPT-like decoders, BERT-like encoders and DeBERTa-v3 of full size are)"
        )
    if len(kept) != len(decoder.blocks):
        raise UnsupportedModelError(
            f"{len(kept)} blocks are said to keep something and {name} has {len(decoder.blocks)}"
        )
    for index, entry in enumerate(kept):
        given = (entry.groups_G.numel(), entry.channels_C.numel())
        if given != (structure.groups, structure.channels):
            raise UnsupportedModelError(
                f"block {index} keeps some of {given[0]} head groups and {given[1]} channels, "
                f"and {name} has {structure.groups} and {structure.channels}"
            )
    return structure


def _cuts(
    block: nn.Module, structure: BlockStructure, entry: Kept
) -> Iterator[tuple[str, nn.Linear, str, Cut]]:
    """(layer's name, layer, its parameter, what stays of it)."""
    query, key, channels = (
        flags.cpu().nonzero().flatten()
        for flags in (
            structure.query_features(entry.groups_G),
            structure.key_features(entry.groups_G),
            entry.channels_C,
        )
    )
    rows = {structure.query: query, structure.key: key, structure.value: key}
    rows |= dict.fromkeys(structure.channel_in, channels)
    columns = {structure.attention_out: query, structure.channel_out: channels}
    for dimension, indices in enumerate((rows, columns)):
        for name, index in indices.items():
            layer = block.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            yield name, layer, "weight", Cut(dimension, index)
            if dimension == 0 and layer.bias is not None:
                yield name, layer, "bias", Cut(dimension, index)


def _tell_heads(block: nn.Module, structure: BlockStructure, groups: int) -> None:
    """Set the counts that some attention modules reshape by; a group's query heads stay as many."""
    attention = block.get_submodule(structure.query.rpartition(".")[0])
    heads = groups * structure.queries
    full = structure.groups * structure.queries
    for names, before, after in (
        (_QUERY_HEADS, full, heads),
        (_QUERY_FEATURES, full * structure.head_dim, heads * structure.head_dim),
        (_KEY_HEADS, structure.groups, groups),
    ):
        for name in names:
            if getattr(attention, name, None) == before:
                setattr(attention, name, after)


@torch.no_grad()
def require_removed(decoder: Decoder, kept: Sequence[Kept]) -> None:
    """Check that nothing of what ``kept`` leaves out reaches a full-size model's hidden states.

    Raises:
        UnsupportedModelError: cutting it out would change what the model computes.
    """
    structure = require_structure(decoder, kept)
    for number, (block, entry) in enumerate(zip(decoder.blocks, kept, strict=True)):
        for name, kept_I in (
            (structure.attention_out, structure.query_features(entry.groups_G)),
            (structure.channel_out, entry.channels_C),
        ):
            weight_OI = block.get_submodule(name).get_parameter("weight")
            if weight_OI[:, ~kept_I.to(weight_OI.device)].count_nonzero():
                raise UnsupportedModelError(
                    f"{name} of block {number} has weights where secateur.json says that heads or "
                    "channels were removed: the weights or that file changed since they were saved"
                )
