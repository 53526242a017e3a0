"""Sketched OBS: SparseGPT's kind of update from one pass over the dense model.

This project's own method. It starts from SwiftPrune's idea (arXiv 2501.16376: OBS losses in closed
form from one pass, linear in the number of weights) and departs from that paper in everything else:

- the Hessian is a diagonal, the two mean inputs and the leading directions of the rest
  (``hessian.py``) in place of one rank-one term;
- of each row, or each group, exactly as many weights go as the target says; nothing is scanned;
- the weights that stay are scaled towards their row's energy (``core/energy.py``), then changed so
  that each row answers those directions as before (``update.py``).

Figures and what did not help: ``tests/benchmarks/sketched_obs.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.pruning.core import masks
from tasks.pruning.core.energy import CompensatingMethod, rescaled
from tasks.pruning.core.methods import LayerMethod, option
from tasks.pruning.core.registry import register
from tasks.pruning.core.statistics import ColumnStatistics
from tasks.pruning.core.targets import Target
from tasks.pruning.sketched_obs.hessian import LowRankHessian, low_rank_hessian
from tasks.pruning.sketched_obs.update import compensated_, saliency


@register
@dataclass(frozen=True, kw_only=True)
class SketchedOBS(CompensatingMethod, LayerMethod):
    """Prunes the smallest OBS losses under a sketched Hessian; kept weights compensate."""

    name: ClassVar[str] = "sketched_obs"
    summary: ClassVar[str] = "OBS under a sketched low-rank Hessian, from one pass; compensates."
    source: ClassVar[str] = "this project, from SwiftPrune's idea (arXiv 2501.16376)"
    version: ClassVar[int] = 2
    uses_calibration: ClassVar[bool] = True
    uses_statistics: ClassVar[bool] = True

    directions: int = option(
        96,
        "Leading directions of the inputs in the Hessian, beside the two means; at most a quarter "
        "of the tokens that the layer saw, and half of its in-features.",
        ge=0,
        le=512,
    )
    oversampling: float = option(
        2.0, "Columns of the sketch, as a multiple of the directions.", ge=1, le=64
    )
    tokens: int = option(
        8192, "Statistics use at most so many calibration tokens, in whole windows.", ge=1
    )
    first_weight: float = option(
        0.05, "Share of the windows' first positions in the Hessian.", gt=0, lt=1
    )
    ridge: float = option(
        0.01,
        "Added to the Hessian's diagonal, as part of its mean; 400/T times that in a layer that "
        "saw T tokens, fewer than 400.",
        ge=0,
    )

    @property
    def departs(self) -> str:
        return "Hessian, selection and update are this project's own"

    @property
    def sketch(self) -> int:
        return round(self.directions * self.oversampling)

    def calibration_windows(self, windows: int, length: int) -> int:
        return min(windows, -(-self.tokens // length))

    def hessian(self, statistics: ColumnStatistics) -> LowRankHessian:
        """The model of a layer's inputs."""
        return low_rank_hessian(statistics, self.directions, self.first_weight, self.ridge)

    def prune_layer(
        self,
        weight_OI: Tensor,
        statistics: ColumnStatistics | None,
        target: Target,
        generator: torch.Generator,
    ) -> Tensor:
        del generator
        assert statistics is not None
        matrix, kept_share = self.hessian(statistics), 1 - target.sparsity
        before_OI = weight_OI.float()
        losses_OI = before_OI.square() * saliency(matrix, kept_share)
        stays_OI = masks.lowest(losses_OI, target, zero_OI=weight_OI == 0).logical_not_().float()
        kept_OI = rescaled(before_OI, stays_OI, matrix.diagonal_I, self.restored(target))
        kept_OI = compensated_(kept_OI, before_OI, stays_OI, matrix, kept_share, self.steps)
        return kept_OI.to(weight_OI.dtype)
