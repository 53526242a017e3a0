"""A pruning method that waits, for tests of many machines: copy it into a checkout's
``tasks/pruning/``.
"""

from __future__ import annotations

import time
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
class Waiting(LayerMethod):
    """Magnitude pruning that takes its time without computing."""

    name: ClassVar[str] = "waiting"
    summary: ClassVar[str] = "Waits, then the smallest weights go; for tests."
    source: ClassVar[str] = "none"
    uses_seed: ClassVar[bool] = True

    seconds: float = option(0.5, "Seconds that each layer waits.")

    def prune_layer(
        self,
        weight_OI: Tensor,
        statistics: ColumnStatistics | None,
        target: Target,
        generator: torch.Generator,
    ) -> Tensor:
        del statistics, generator
        time.sleep(self.seconds)
        pruned_OI = masks.lowest(weight_OI.float().abs(), target, across="layer")
        return weight_OI.masked_fill(pruned_OI, 0)
