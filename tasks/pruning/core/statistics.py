"""What calibration collects about a layer's inputs.

A few vectors of sums for each layer, linear in the number of weights, and for methods that ask for
it a sketch of the second moments; the second-order methods keep their Hessians in their own files.
The first position of each window is counted apart: in trained decoders it attracts attention and
carries activations orders of magnitude above the others', which would hide everything else.

Shapes: ``N`` windows, ``L`` positions of a window, ``I`` in-features, ``S`` columns of a sketch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

_PROBE_SEED = 20250127
"""Of the probe alone: the same for every layer, run and device, so that it need not be kept."""


@lru_cache(maxsize=8)
def probe(in_features: int, columns: int) -> Tensor:
    """The Gaussian matrix ``I × S`` that second moments are multiplied with, float32 on the CPU."""
    generator = torch.Generator().manual_seed(_PROBE_SEED)
    return torch.randn(in_features, columns, generator=generator)


@dataclass(frozen=True, eq=False)
class ColumnStatistics:
    """Sums over the calibration tokens of one input, float32 on one device.

    Layers that share an input share one of these.

    Attributes:
        first_sum_I, first_energy_I: Σ x and Σ x² over the first positions of the windows.
        rest_sum_I, rest_energy_I: the same over all other positions.
        windows: how many first positions the layer has seen; an expert may have seen none.
        tokens: how many positions in all.
        sketch_IS: Σ x (xᵀG) over the other positions, ``G`` the :func:`probe`; None where no method
            asked for it.
    """

    first_sum_I: Tensor
    first_energy_I: Tensor
    rest_sum_I: Tensor
    rest_energy_I: Tensor
    windows: int
    tokens: int
    sketch_IS: Tensor | None = None

    @property
    def energy_I(self) -> Tensor:
        """x_i² = Σ_t X_ti² over all positions."""
        return self.first_energy_I + self.rest_energy_I

    def tensors(self) -> dict[str, Tensor]:
        """Every sum by its name."""
        found = {name: getattr(self, name) for name in VECTORS}
        return found if self.sketch_IS is None else found | {SKETCH: self.sketch_IS}

    def to(self, device: torch.device) -> ColumnStatistics:
        """The same sums on ``device``, never sharing memory with these."""
        moved = {name: tensor.to(device, copy=True) for name, tensor in self.tensors().items()}
        return ColumnStatistics(**moved, windows=self.windows, tokens=self.tokens)


VECTORS = ("first_sum_I", "first_energy_I", "rest_sum_I", "rest_energy_I")
"""The vectors of :class:`ColumnStatistics`, in order."""
SKETCH = "sketch_IS"


class ColumnCollector:
    """Accumulates :class:`ColumnStatistics` batch by batch.

    Args:
        sketch: columns of the sketch, at most as many as in-features; 0: none.
    """

    def __init__(self, in_features: int, device: torch.device, sketch: int = 0) -> None:
        self._sums = {
            name: torch.zeros(in_features, dtype=torch.float32, device=device) for name in VECTORS
        }
        self._windows = self.tokens = 0
        self._probe_IS = self._sketch_IS = None
        if sketch:
            self._probe_IS = probe(in_features, min(sketch, in_features)).to(device)
            self._sketch_IS = torch.zeros_like(self._probe_IS)

    def add(self, inputs_NLI: Tensor) -> None:
        """Add a batch of windows' inputs."""
        # Window by window on a CPU: one window's squares and products fit its cache.
        parts = inputs_NLI if inputs_NLI.device.type == "cpu" else [inputs_NLI]
        for part_XLI in parts:
            self._add("first", part_XLI[..., :1, :])
            self._add("rest", part_XLI[..., 1:, :])
        self._windows += inputs_NLI.shape[0]
        self.tokens += inputs_NLI.shape[0] * inputs_NLI.shape[1]

    def add_sent(self, inputs_RI: Tensor, first_R: Tensor) -> None:
        """Add what an expert is sent of a batch: of its inputs there are no others."""
        self._add("first", inputs_RI[first_R])
        self._add("rest", inputs_RI[~first_R])
        self._windows += int(first_R.sum())
        self.tokens += len(first_R)

    def _add(self, part: str, inputs_XI: Tensor) -> None:
        sum_I, energy_I = self._sums[f"{part}_sum_I"], self._sums[f"{part}_energy_I"]
        sketched = part == "rest" and self._sketch_IS is not None
        if inputs_XI.device.type != "cpu" and not sketched:
            # Read as they lie: a copy in float32 would cost several times the sums.
            positions = tuple(range(inputs_XI.ndim - 1))
            sum_I += inputs_XI.sum(dim=positions, dtype=torch.float32)
            norm_I = torch.linalg.vector_norm(inputs_XI, dim=positions, dtype=torch.float32)
            energy_I += norm_I.square()
            return
        inputs_TI = inputs_XI.flatten(0, -2).float()
        sum_I += inputs_TI.sum(dim=0)
        energy_I += inputs_TI.square().sum(dim=0)
        if sketched:
            assert self._sketch_IS is not None and self._probe_IS is not None
            self._sketch_IS.addmm_(inputs_TI.T, inputs_TI @ self._probe_IS)

    def result(self) -> ColumnStatistics:
        return ColumnStatistics(
            **self._sums, windows=self._windows, tokens=self.tokens, sketch_IS=self._sketch_IS
        )
