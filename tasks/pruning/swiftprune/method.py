"""SwiftPrune: Hessian-free pruning without sorting (arXiv 2501.16376).

With H = xxᵀ + λI, Sherman-Morrison gives the OBS loss of a weight in closed form,

    L_oi = w_oi² / (1 − x_i²/S),   x_i² = Σ_t X_ti²,   S = Σ_i x_i²          (contribution: weight)

and a scan of each row selects without sorting (``ewma.py``). The paper's method is ``contribution:
weight, scale: loss, alpha: 0.125, shrink: 0, compensation: none``. The rest is ours, under names of
its own; defaults are chosen from measurements (``tests/benchmarks/swiftprune.md``):

- ``output``: the same correction on the loss at the layer's output, w_oi²·x_i² / (1 − x_i²/S);
- ``means`` and ``compensation: means``: loss and update under the two-mean Hessian of
  ``low_rank.py``. The loss is w²·[H⁻¹]_ii^(−exponent).

Statistics are those of the dense model, one pass, shared by all layers' targets. ``selection:
exact`` sorts rows' losses by selection (top-k) and is the control.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tasks.pruning.core import masks
from tasks.pruning.core.methods import LayerMethod, option
from tasks.pruning.core.registry import register
from tasks.pruning.core.statistics import ColumnStatistics
from tasks.pruning.core.targets import Fraction, Target
from tasks.pruning.swiftprune import ewma, low_rank

_POWERS = {"loss": 1.0, "root": 0.5, "fourth-root": 0.25}


def rank_one_factor(energy_I: Tensor, kind: str) -> Tensor:
    """L_oi / w_oi² of ``weight`` and ``output``, float32."""
    share_I = energy_I / energy_I.sum().clamp(min=torch.finfo(torch.float32).tiny)
    factor_I = 1.0 / (1.0 - share_I).clamp(min=1e-6)
    return factor_I * energy_I if kind == "output" else factor_I


@register
@dataclass(frozen=True, kw_only=True)
class SwiftPrune(LayerMethod):
    """Prunes the smallest closed-form OBS losses, selected by a scan."""

    name: ClassVar[str] = "swiftprune"
    summary: ClassVar[str] = "Closed-form OBS loss from one pass of the dense model; sorts nothing."
    source: ClassVar[str] = "SwiftPrune, arXiv 2501.16376"
    uses_seed: ClassVar[bool] = True
    uses_calibration: ClassVar[bool] = True
    uses_statistics: ClassVar[bool] = True

    contribution: Literal["means", "output", "weight"] = option(
        "means", "weight: the paper's; output: at the layer's output; means: two-mean Hessian."
    )
    selection: Literal["ewma", "exact"] = option(
        "ewma", "ewma: one scan of each row, no sort; exact: the smallest of each row, the control."
    )
    alpha: float = option(1 / 128, "Rate of the scan's averages; the paper's is 0.125.", gt=0, lt=1)
    scale: Literal["loss", "root", "fourth-root"] = option(
        "fourth-root", "What is scanned: the loss itself, as the paper does, or a root of it."
    )
    shrink: float = option(
        0.25, "How far a row's scan is drawn to the whole matrix; the paper's is 0.", ge=0, le=1
    )
    compensation: Literal["means", "none"] = option(
        "means", "none: the paper's; means: kept weights restore each row's response to the means."
    )
    exponent: float = option(0.85, "contribution means: power of 1/[H⁻¹]; OBS is 1.", gt=0, le=2)
    first_weight: float = option(
        0.05, "Share of the windows' first positions in the two-mean Hessian.", gt=0, lt=1
    )
    ridge: float = option(0.01, "Added to the Hessian's diagonal, as part of its mean.", ge=0)
    rescale: float = option(
        0.75, "compensation means: how far a row's energy is restored first.", ge=0, le=1
    )
    tokens: int = option(
        8192, "Statistics use at most so many calibration tokens, in whole windows.", ge=1
    )

    def calibration_windows(self, windows: int, length: int) -> int:
        return min(windows, -(-self.tokens // length))

    def losses(self, weight_OI: Tensor, statistics: ColumnStatistics) -> Tensor:
        """L_oi of the chosen contribution, float32."""
        squares_OI = weight_OI.float().square()
        if self.contribution == "means":
            matrix = low_rank.hessian(statistics, self.first_weight, self.ridge)
            return squares_OI * low_rank.inverse_diagonal(matrix) ** -self.exponent
        return squares_OI * rank_one_factor(statistics.energy_I, self.contribution)

    def prune_layer(
        self,
        weight_OI: Tensor,
        statistics: ColumnStatistics | None,
        target: Target,
        generator: torch.Generator,
    ) -> Tensor:
        assert statistics is not None
        losses_OI = self.losses(weight_OI, statistics)
        if isinstance(target, Fraction) and self.selection == "ewma":
            scanned_OI = losses_OI ** _POWERS[self.scale]
            pruned_OI = ewma.select(scanned_OI, target.value, self.alpha, generator, self.shrink)
        else:
            pruned_OI = masks.lowest(losses_OI, target)
        if self.compensation == "none":
            return weight_OI.masked_fill(pruned_OI, 0)
        matrix = low_rank.hessian(statistics, self.first_weight, self.ridge)
        kept_OI = low_rank.compensate(weight_OI, pruned_OI, matrix, self.rescale)
        return kept_OI.to(weight_OI.dtype)
