"""What calibration collects about a layer's inputs.

A few vectors of sums for each layer, linear in the number of weights; the second-order methods keep
their Hessians in their own files. The first position of each window is counted apart: in trained
decoders it attracts attention and carries activations orders of magnitude above the others', which
would hide everything else.

Shapes: ``N`` windows, ``L`` positions of a window, ``I`` in-features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ColumnStatistics:
    """Sums over the calibration tokens of one layer's inputs, float32 on one device.

    Attributes:
        first_sum_I, first_energy_I: Σ X and Σ X² over the first positions of the windows.
        rest_sum_I, rest_energy_I: the same over all other positions.
        windows: how many first positions the layer has seen; an expert may have seen none.
        tokens: how many positions in all.
    """

    first_sum_I: Tensor
    first_energy_I: Tensor
    rest_sum_I: Tensor
    rest_energy_I: Tensor
    windows: int
    tokens: int

    @property
    def energy_I(self) -> Tensor:
        """x_i² = Σ_t X_ti² over all positions."""
        return self.first_energy_I + self.rest_energy_I

    def to(self, device: torch.device) -> ColumnStatistics:
        """The same sums on ``device``, never sharing memory with these."""
        moved = {name: getattr(self, name).to(device, copy=True) for name in VECTORS}
        return ColumnStatistics(**moved, windows=self.windows, tokens=self.tokens)


VECTORS = ("first_sum_I", "first_energy_I", "rest_sum_I", "rest_energy_I")
"""The tensors of :class:`ColumnStatistics`, in order."""


class ColumnCollector:
    """Accumulates :class:`ColumnStatistics` batch by batch."""

    def __init__(self, in_features: int, device: torch.device) -> None:
        self._sums = {
            name: torch.zeros(in_features, dtype=torch.float32, device=device) for name in VECTORS
        }
        self._windows = self._tokens = 0

    def add(self, inputs_NLI: Tensor) -> None:
        """Add a batch of windows' inputs."""
        inputs_NLI = inputs_NLI.float()
        for name, part in (("first", inputs_NLI[:, :1]), ("rest", inputs_NLI[:, 1:])):
            # Window by window: the squares of one window fit the processor's cache.
            for window_LI in part:
                self._sums[f"{name}_sum_I"] += window_LI.sum(dim=0)
                self._sums[f"{name}_energy_I"] += window_LI.square().sum(dim=0)
        self._windows += inputs_NLI.shape[0]
        self._tokens += inputs_NLI.shape[0] * inputs_NLI.shape[1]

    def add_sent(self, inputs_RI: Tensor, first_R: Tensor) -> None:
        """Add what an expert is sent of a batch: of its inputs there are no others."""
        inputs_RI = inputs_RI.float()
        for name, part_RI in (("first", inputs_RI[first_R]), ("rest", inputs_RI[~first_R])):
            self._sums[f"{name}_sum_I"] += part_RI.sum(dim=0)
            self._sums[f"{name}_energy_I"] += part_RI.square().sum(dim=0)
        self._windows += int(first_R.sum())
        self._tokens += len(first_R)

    def result(self) -> ColumnStatistics:
        return ColumnStatistics(**self._sums, windows=self._windows, tokens=self._tokens)
