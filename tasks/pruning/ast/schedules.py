"""What changes over a training run: learning rate, decay of pruned weights, order of windows.

Each is a function of the step alone, so that a run that was interrupted needs only its step number
to go on as if nothing had happened. Steps count from 1.
"""

from __future__ import annotations

import math

import torch

WARM_UP = 0.05
COOL_DOWN = 0.95
FLOOR = 0.1


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 5 % of the run, cosine to a tenth at 95 %, then linear to zero.

    A step takes the value in its middle, so that neither the first nor the last one is lost.
    """
    done = (step - 0.5) / steps
    if done < WARM_UP:
        return peak * done / WARM_UP
    if done > COOL_DOWN:
        return peak * FLOOR * (1 - done) / (1 - COOL_DOWN)
    angle = math.pi * (done - WARM_UP) / (COOL_DOWN - WARM_UP)
    return peak * (FLOOR + (1 - FLOOR) * (1 + math.cos(angle)) / 2)


def decay(step: int, steps: int, highest: float, kind: str, ramp: float) -> float:
    """λ(t) of the pruned weights.

    Args:
        kind: ``annealed``: λ_max·min(t/T₀, 1); ``static``: λ_max; ``none``: 0.
        ramp: T₀ as a part of the run.
    """
    if kind == "annealed":
        return highest * min(step / max(ramp * steps, 1.0), 1.0)
    return highest if kind == "static" else 0.0


class WindowOrder:
    """Every window once an epoch, each epoch in another order; a batch may span two epochs."""

    def __init__(self, windows: int, seed: int) -> None:
        if windows < 1:
            raise ValueError("there is no window to train on")
        self._windows = windows
        self._generator = torch.Generator().manual_seed(seed)
        self._epochs: list[list[int]] = []

    def batch(self, step: int, size: int) -> list[int]:
        """The windows of a step."""
        return [self._at(position) for position in range((step - 1) * size, step * size)]

    def _at(self, position: int) -> int:
        epoch, place = divmod(position, self._windows)
        while len(self._epochs) <= epoch:
            order = torch.randperm(self._windows, generator=self._generator)
            self._epochs.append(order.tolist())
        return self._epochs[epoch][place]
