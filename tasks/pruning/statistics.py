"""What calibration collects about a layer's inputs.

One vector of sums for each layer, linear in the number of weights; the second-order methods keep
their Hessians in their own files.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ColumnStatistics:
    """Sums over the calibration tokens of one layer's inputs.

    Attributes:
        sum_I: Σ_t X_ti, float32.
        energy_I: Σ_t X_ti², float32.
        tokens: how many tokens were summed.
    """

    sum_I: Tensor
    energy_I: Tensor
    tokens: int


class ColumnCollector:
    """Accumulates :class:`ColumnStatistics` batch by batch."""

    def __init__(self, in_features: int, device: torch.device) -> None:
        self._sum_I = torch.zeros(in_features, dtype=torch.float32, device=device)
        self._energy_I = torch.zeros(in_features, dtype=torch.float32, device=device)
        self._tokens = 0

    def add(self, inputs_TI: Tensor) -> None:
        """Add a batch of inputs, one row a token."""
        inputs_TI = inputs_TI.float()
        self._sum_I += inputs_TI.sum(dim=0)
        self._energy_I += inputs_TI.square().sum(dim=0)
        self._tokens += inputs_TI.shape[0]

    def result(self) -> ColumnStatistics:
        return ColumnStatistics(self._sum_I, self._energy_I, self._tokens)
