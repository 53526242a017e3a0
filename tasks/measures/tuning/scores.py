"""Counts of right and wrong answers, and bootstrap errors over what was drawn.

Shapes: ``N`` texts, ``R`` resamples, ``F`` figures.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_RESAMPLES = 1_000
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class Counts:
    """True positives, false positives and false negatives."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """Of what was predicted, how much is right; 0 where nothing was."""
        return self.tp / (self.tp + self.fp) if self.tp + self.fp else 0.0

    @property
    def recall(self) -> float:
        """Of what is there, how much was predicted; 0 where nothing is."""
        return self.tp / (self.tp + self.fn) if self.tp + self.fn else 0.0

    @property
    def f1(self) -> float:
        """Their harmonic mean; 0 where both are 0."""
        total = 2 * self.tp + self.fp + self.fn
        return 2 * self.tp / total if total else 0.0


def pooled(counts: Iterable[Counts]) -> Counts:
    """The sum, whose F1 is the micro average."""
    return sum(counts, Counts())


def table(named: Mapping[str, Counts]) -> str:
    """As CSV, one line a label: how many there are, counts and shares."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(("label", "N", "TP", "FP", "FN", "P", "R", "F1"))
    for label, found in named.items():
        counts = (found.tp + found.fn, found.tp, found.fp, found.fn)
        lines.writerow((label, *counts, found.precision, found.recall, found.f1))
    return out.getvalue()


def resampled(
    count: int,
    figures_of: Callable[[Tensor], Tensor],
    *,
    seed: int = 0,
    resamples: int = _RESAMPLES,
) -> Tensor:
    """Figures of as many texts drawn with replacement, again and again, ``R × F``, float64.

    Args:
        figures_of: places of the drawn texts, ``N`` → their figures, ``F``.
    """
    generator = torch.Generator().manual_seed(seed)
    # One resample at a time: a thousand of many texts would fill the memory.
    return torch.stack(
        [
            figures_of(torch.randint(count, (count,), generator=generator)).double()
            for _ in range(resamples)
        ]
    )


def with_errors(names: Sequence[str], whole_F: Tensor, resampled_RF: Tensor) -> dict[str, Any]:
    """Each figure of all texts, with its standard error and the bootstrap's 95 %."""
    told: dict[str, Any] = {}
    quantiles = torch.tensor(_QUANTILES, dtype=torch.float64)
    for name, figure, resampled_R in zip(names, whole_F, resampled_RF.unbind(1), strict=True):
        told[name] = float(figure)
        told[f"{name}_stderr"] = float(resampled_R.std())
        told[f"{name}_interval"] = torch.quantile(resampled_R, quantiles).tolist()
    return told
