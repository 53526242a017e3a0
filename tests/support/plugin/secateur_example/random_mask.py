"""Random pruning: the baseline that every score must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.pruning.core import masks
from tasks.pruning.core.methods import LayerMethod, option
from tasks.pruning.core.registry import register
from tasks.pruning.core.statistics import ColumnStatistics
from tasks.pruning.core.targets import Target


@register
@dataclass(frozen=True, kw_only=True)
class RandomMask(LayerMethod):
    """Prunes weights at random."""

    name: ClassVar[str] = "random_mask"
    summary: ClassVar[str] = "Random weights go; needs no data."
    source: ClassVar[str] = "none: a baseline"
    uses_seed: ClassVar[bool] = True

    scale: float = option(1.0, "Weights kept are multiplied by it.", gt=0, le=2)

    def prune_layer(
        self,
        weight_OI: Tensor,
        statistics: ColumnStatistics | None,
        target: Target,
        generator: torch.Generator,
    ) -> Tensor:
        del statistics
        score_OI = torch.rand(weight_OI.shape, generator=generator).to(weight_OI.device)
        return weight_OI.masked_fill(masks.lowest(score_OI, target), 0) * self.scale
