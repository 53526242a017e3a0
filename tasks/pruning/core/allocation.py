"""How much of each block goes: the same share, or less where outliers are (OWL, arXiv 2310.05175).

With scores A = |W_oi|·‖X_i‖₂ of the dense model, ‖X_i‖ per token, a block's outliers are the part
D of its scores that exceed ``M`` times the block's mean score. What a block keeps of its weights is
linear in D, and the most and the least that one keeps lie 2λ apart:
kept_b = (D_b − min D)/(max D − min D)·2λ + c, where c makes the weights that all blocks keep
together what the target asks. So a block that alone has outliers lies nearly 2λ from the target,
and the others close to it.

Deviation from the authors' code: c weighs blocks by their size, which differs where layers are
excluded or blocks are not alike; and where a block would keep all or nothing, λ shrinks until none
does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.notes import LEAST, MOST
from tasks.pruning.core.statistics import ColumnStatistics
from tasks.pruning.core.targets import Fraction, Target

_MARGIN = 1e-3
"""The least that every block keeps, and loses; targets lie further inside (``methods.py``)."""


@dataclass(frozen=True)
class Allocation:
    """The target of each block.

    Attributes:
        target: of all blocks together.
        by_block: a block's dotted name → its own target; empty: each has the common one.
    """

    target: Target
    by_block: Mapping[str, Fraction]

    def of(self, layer: str) -> Target:
        """The target of a layer, by the full name of it or of its block."""
        for block, target in self.by_block.items():
            if layer == block or layer.startswith(f"{block}."):
                return target
        return self.target

    def figures(self) -> dict[str, float]:
        shares = [target.value for target in self.by_block.values()]
        return {LEAST: min(shares), MOST: max(shares)} if shares else {}


def outlier_parts(
    decoder: Decoder, statistics: Mapping[str, ColumnStatistics], multiple: float
) -> dict[str, float]:
    """D of each block with layers to prune, by its dotted name."""
    parts: dict[str, float] = {}
    layers = decoder.pruned_layers()
    for index in range(len(decoder.blocks)):
        block = f"{decoder.blocks_name}.{index}"
        mine = {n: layer for n, layer in layers.items() if n.startswith(f"{block}.")}
        if not mine:
            continue
        # Experts that no token reached have no scores; others are sent fewer than attention sees.
        pairs = [
            (mine[n].weight_OI, (statistics[n].energy_I / max(1, statistics[n].tokens)).sqrt())
            for n in mine
            if n in statistics
        ]
        sizes = sum(weight_OI.numel() for weight_OI, _ in pairs)
        total = sum(float(_scores(*pair).sum(dtype=torch.float64)) for pair in pairs)
        above = sum(int((_scores(*pair) > multiple * total / sizes).sum()) for pair in pairs)
        parts[block] = above / max(1, sizes)
    return parts


def _scores(weight_OI: Tensor, norm_I: Tensor) -> Tensor:
    return weight_OI.float().abs() * norm_I.to(weight_OI.device)


def by_outliers(
    decoder: Decoder,
    target: Fraction,
    statistics: Mapping[str, ColumnStatistics],
    *,
    multiple: float,
    spread: float,
) -> Allocation:
    """Targets of the blocks, so that their weights together lose what the target asks.

    Args:
        statistics: of the dense model, by full layer name.
        multiple: M.
        spread: λ, half of what lies between the most and the least that a block loses.
    """
    parts = outlier_parts(decoder, statistics, multiple)
    sizes = dict.fromkeys(parts, 0)
    for name, layer in decoder.pruned_layers().items():
        block = next(block for block in parts if name.startswith(f"{block}."))
        sizes[block] += layer.weight_OI.numel()
    low, high = min(parts.values()), max(parts.values())
    scale = 2 * spread / (high - low) if high > low else 0.0
    mean = sum(parts[b] * sizes[b] for b in parts) / sum(sizes.values())
    away = {block: (mean - part) * scale for block, part in parts.items()}  # of what goes
    room = min(1.0, *(_room(target.value, value) for value in away.values()))
    return Allocation(
        target, {block: Fraction(target.value + room * value) for block, value in away.items()}
    )


def _room(share: float, away: float) -> float:
    """By what ``away`` is multiplied at most, for the block to keep and to lose something."""
    if away > 0:
        return max(0.0, 1 - _MARGIN - share) / away
    return max(0.0, share - _MARGIN) / -away if away < 0 else 1.0
