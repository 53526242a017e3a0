"""SwiftPrune: Hessian-free pruning without sorting (arXiv 2501.16376).

With H = xxᵀ + λI, Sherman-Morrison gives the OBS loss of a weight in closed form,

    L_oi = w_oi² / (1 − x_i²/S),   x_i² = Σ_t X_ti²,   S = Σ_i x_i²          (contribution: weight)

The paper's contribution is ``weight``. ``output`` is ours: the same correction on the loss at the
layer's output, L_oi = w_oi²·x_i² / (1 − x_i²/S). Selection scans each row once and sorts nothing
(``ewma.py``); ``exact`` is the control. Statistics are those of the dense model, collected once for
all layers and targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tasks.pruning import ewma, masks
from tasks.pruning.base import LayerMethod, option
from tasks.pruning.registry import register
from tasks.pruning.statistics import ColumnStatistics
from tasks.pruning.targets import Fraction, Target


def contribution(weight_OI: Tensor, energy_I: Tensor, kind: str) -> Tensor:
    """L_oi in float32; ``kind`` is ``weight`` or ``output``."""
    share_I = energy_I / energy_I.sum().clamp(min=torch.finfo(torch.float32).tiny)
    corrected_I = 1.0 / (1.0 - share_I).clamp(min=1e-6)
    if kind == "output":
        corrected_I = corrected_I * energy_I
    return weight_OI.float().square() * corrected_I


@register
@dataclass(frozen=True, kw_only=True)
class SwiftPrune(LayerMethod):
    """Prunes the smallest rank-one OBS losses, selected by a scan."""

    name: ClassVar[str] = "swiftprune"
    summary: ClassVar[str] = "Rank-one OBS loss from one pass of the dense model; sorts nothing."
    source: ClassVar[str] = "SwiftPrune, arXiv 2501.16376"
    uses_seed: ClassVar[bool] = True
    uses_calibration: ClassVar[bool] = True
    uses_statistics: ClassVar[bool] = True

    contribution: Literal["output", "weight"] = option(
        "output", "weight: the paper's loss of the weight; output: the loss at the layer's output."
    )
    selection: Literal["ewma", "exact"] = option(
        "ewma", "ewma: one scan of each row, no sort; exact: the smallest of each row, the control."
    )
    alpha: float = option(
        0.0078125, "Rate of the scan's averages; 0.125 is the published style.", gt=0.0, lt=1.0
    )
    scale: Literal["root", "loss"] = option("root", "Scan the root of L, or L itself.")

    def prune_layer(
        self,
        weight_OI: Tensor,
        statistics: ColumnStatistics | None,
        target: Target,
        generator: torch.Generator,
    ) -> Tensor:
        assert statistics is not None
        scores_OI = contribution(weight_OI, statistics.energy_I, self.contribution)
        if isinstance(target, Fraction) and self.selection == "ewma":
            scanned_OI = scores_OI.sqrt() if self.scale == "root" else scores_OI
            pruned_OI = ewma.select(scanned_OI, target.value, self.alpha, self.alpha, generator)
        else:
            pruned_OI = masks.lowest(scores_OI, target)
        return weight_OI.masked_fill(pruned_OI, 0)
