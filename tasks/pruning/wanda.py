"""Wanda: pruning by weights and activations (Sun et al., arXiv 2306.11695).

Score |W_oi|·‖X_i‖₂, compared within each output row (eq. 1); statistics block after block, each
block pruned before its outputs feed the next (section 3). No weight update.

Deviation: the norm is taken over all calibration tokens at once, where the authors' code averages
the squared norms of samples; for windows of one length the two order the weights alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.pruning.core import masks
from tasks.pruning.core.methods import BlockMethod, Collector
from tasks.pruning.core.registry import register
from tasks.pruning.core.statistics import ColumnCollector
from tasks.pruning.core.targets import Target


class _Energies(ColumnCollector, Collector):
    """Σ_t X_ti² of each column."""


@register
@dataclass(frozen=True, kw_only=True)
class Wanda(BlockMethod):
    """Prunes the smallest |W|·‖X‖ of each output row."""

    name: ClassVar[str] = "wanda"
    summary: ClassVar[str] = "Smallest |weight| x input norm of each row go, block after block."
    source: ClassVar[str] = "Sun et al. 2023, arXiv 2306.11695"
    version: ClassVar[int] = 3

    def collector(self, in_features: int, device: torch.device) -> Collector:
        return _Energies(in_features, device)

    def prune_layer(
        self,
        weight_OI: Tensor,
        collected: Collector,
        target: Target,
        generator: torch.Generator,
    ) -> Tensor:
        del generator
        assert isinstance(collected, _Energies)
        norm_I = collected.result().energy_I.sqrt()
        scores_OI = weight_OI.float().abs() * norm_I
        return weight_OI.masked_fill(masks.lowest(scores_OI, target, zero_OI=weight_OI == 0), 0)
