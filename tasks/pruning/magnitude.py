"""Magnitude pruning: the smallest weights go.

Score |W|, compared within each layer's matrix (as in Wanda's code, the default) or within each
output row. No calibration data.
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
from tasks.pruning.core.targets import Target


@register
@dataclass(frozen=True, kw_only=True)
class Magnitude(LayerMethod):
    """Prunes the smallest |W|."""

    name: ClassVar[str] = "magnitude"
    summary: ClassVar[str] = "Smallest absolute weights go; needs no data."
    source: ClassVar[str] = "Han et al. 2015, arXiv 1506.02626; per layer as in Wanda's baseline"

    compare: Literal["layer", "row"] = option(
        "layer", "Compare weights within the whole matrix (layer) or within each output row (row)."
    )

    def prune_layer(
        self,
        weight_OI: Tensor,
        statistics: ColumnStatistics | None,
        target: Target,
        generator: torch.Generator,
    ) -> Tensor:
        del statistics, generator
        pruned_OI = masks.lowest(
            weight_OI.float().abs(), target, across=self.compare, zero_OI=weight_OI == 0
        )
        return weight_OI.masked_fill(pruned_OI, 0)
