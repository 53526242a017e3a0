"""What a pruned model holds of zeros, over all linear layers of its blocks, excluded ones too."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from tasks.pruning.core.blocks import Decoder


def layer_sparsity(decoder: Decoder, weights: Mapping[str, Tensor]) -> dict[str, float]:
    """Fraction of zeros of each layer after pruning, by full layer name."""
    result: dict[str, float] = {}
    for name, layer in decoder.layers().items():
        weight = layer.within(weights.get(layer.parameter_of(name), layer.whole))
        result[name] = 1.0 - int(weight.count_nonzero()) / weight.numel()
    return result


def sparsity(decoder: Decoder, by_layer: Mapping[str, float]) -> float:
    """Fraction of zeros over all linear layers of the blocks, embeddings and head left out.

    Args:
        by_layer: from :func:`layer_sparsity`.
    """
    sizes = {name: layer.stored.numel() for name, layer in decoder.layers().items()}
    return sum(by_layer[name] * size for name, size in sizes.items()) / sum(sizes.values())
