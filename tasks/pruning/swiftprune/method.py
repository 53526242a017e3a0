"""SwiftPrune: Hessian-free pruning without sorting (arXiv 2501.16376).

Our reading of the paper. With H = xxᵀ + λI, Sherman-Morrison gives the OBS loss of a weight in
closed form,

    L_oi = w_oi² / (1 − x_i²/S),   x_i² = Σ_t X_ti²,   S = Σ_i x_i²          (contribution: weight)

and an exponentially weighted moving average of each row's losses selects without sorting
(``ewma.py``). Statistics are those of the dense model, one pass, shared by all targets.

What the paper leaves open, and how it is read here:

- the score is derived from its description; the printed ½w²(1 − x²/S) of one account contradicts
  the derivation;
- the recurrence is that of TCP's round-trip time, with rates of 1/8, started at the row's mean. Its
  multiple m of the deviation is set so that the matrix meets the target;
- ``keep:group`` keeps the largest losses of each group.

``contribution: output`` takes the same correction to the loss at the layer's output,
w_oi²·x_i² / (1 − x_i²/S), and ``alpha``, ``scale`` and ``shrink`` change the scan: these are ours.
``selection: exact`` takes the smallest of each row and is the control. What this project makes of
the idea is a method of its own, ``sketched_obs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tasks.pruning.core import masks
from tasks.pruning.core.methods import LayerMethod, option
from tasks.pruning.core.registry import register
from tasks.pruning.core.statistics import ColumnStatistics
from tasks.pruning.core.targets import Fraction, Target
from tasks.pruning.swiftprune import ewma


def rank_one_factor(energy_I: Tensor, kind: str) -> Tensor:
    """L_oi / w_oi² of ``weight`` and ``output``, float32."""
    share_I = energy_I / energy_I.sum().clamp(min=torch.finfo(torch.float32).tiny)
    factor_I = 1.0 / (1.0 - share_I).clamp(min=1e-6)
    return factor_I * energy_I if kind == "output" else factor_I


def scanned(losses_OI: Tensor, scale: str) -> Tensor:
    """The losses, or a root of them."""
    roots = {"loss": 0, "root": 1, "fourth-root": 2}[scale]
    for _ in range(roots):  # sqrt twice is four times faster than a power
        losses_OI = losses_OI.sqrt()
    return losses_OI


@register
@dataclass(frozen=True, kw_only=True)
class SwiftPrune(LayerMethod):
    """Prunes the smallest closed-form OBS losses, selected by a scan."""

    name: ClassVar[str] = "swiftprune"
    summary: ClassVar[str] = "Closed-form OBS loss from one pass of the dense model; sorts nothing."
    source: ClassVar[str] = "SwiftPrune, arXiv 2501.16376 (our reading)"
    version: ClassVar[int] = 3
    uses_seed: ClassVar[bool] = True
    uses_calibration: ClassVar[bool] = True
    uses_statistics: ClassVar[bool] = True
    published: ClassVar[Mapping[str, Any]] = {
        "contribution": "weight",
        "selection": "ewma",
        "alpha": 0.125,
        "scale": "loss",
        "shrink": 0.0,
    }

    contribution: Literal["weight", "output"] = option(
        "weight", "weight: the paper's; output: the loss at the layer's output, which is ours."
    )
    selection: Literal["ewma", "exact"] = option(
        "ewma", "ewma: one scan of each row, no sort; exact: the smallest of each row, the control."
    )
    alpha: float = option(
        0.125, "Rate of the scan's averages; smaller is a longer memory.", gt=0, lt=1
    )
    scale: Literal["loss", "root", "fourth-root"] = option(
        "loss", "What is scanned: the loss itself, as the paper does, or a root of it."
    )
    shrink: float = option(
        0.0, "How far a row's scan is drawn to the whole matrix; the paper's is 0.", ge=0, le=1
    )
    tokens: int = option(
        1 << 20, "Statistics use at most so many calibration tokens, in whole windows.", ge=1
    )

    def calibration_windows(self, windows: int, length: int) -> int:
        return min(windows, -(-self.tokens // length))

    def losses(self, weight_OI: Tensor, statistics: ColumnStatistics) -> Tensor:
        """L_oi of the chosen contribution, float32."""
        return weight_OI.float().square() * rank_one_factor(statistics.energy_I, self.contribution)

    def prune_layer(
        self,
        weight_OI: Tensor,
        statistics: ColumnStatistics | None,
        target: Target,
        generator: torch.Generator,
    ) -> Tensor:
        assert statistics is not None
        losses_OI, zero_OI = self.losses(weight_OI, statistics), weight_OI == 0
        if isinstance(target, Fraction) and self.selection == "ewma":
            scanned_OI = scanned(losses_OI, self.scale)
            pruned_OI = ewma.select(
                scanned_OI, target.value, self.alpha, generator, self.shrink, zero_OI
            )
        else:
            pruned_OI = masks.lowest(losses_OI, target, zero_OI=zero_OI)
        return weight_OI.masked_fill(pruned_OI, 0)
