"""Rank correlations, the area under the ROC curve, and bootstrap intervals of either.

None stands where there is nothing to tell: fewer than two points, or one side without variation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Statistic = Callable[..., float | None]
_LEVEL = 0.95
_LEAST = 0.5
"""Part of the resamples that must have a value, for an interval to be told."""


def ranks(values_N: Tensor) -> Tensor:
    """From 1; equal values share the mean of their ranks."""
    _, place, count = values_N.double().unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    return (last - (count.double() - 1) / 2)[place]


def spearman(a: Sequence[float] | Tensor, b: Sequence[float] | Tensor) -> float | None:
    """Correlation of the ranks."""
    return _pearson(ranks(_tensor(a)), ranks(_tensor(b)))


def kendall(a: Sequence[float] | Tensor, b: Sequence[float] | Tensor) -> float | None:
    """Kendall's tau-b, which allows for ties."""
    a_N, b_N = _tensor(a), _tensor(b)
    first = (a_N[:, None] - a_N).sign()
    other = (b_N[:, None] - b_N).sign()
    norm = math.sqrt(float(first.abs().sum()) * float(other.abs().sum()))
    return float((first * other).sum()) / norm if norm else None


def partial_spearman(
    a: Sequence[float] | Tensor, b: Sequence[float] | Tensor, given: Sequence[float] | Tensor
) -> float | None:
    """Correlation of the ranks of ``a`` and ``b`` with what ``given``'s explain of both removed."""
    ab, ag, bg = spearman(a, b), spearman(a, given), spearman(b, given)
    if ab is None or ag is None or bg is None:
        return ab if ag is None and bg is None else None
    left = (1 - ag**2) * (1 - bg**2)
    # Where one is a function of the other nothing is left; rounding must not make it something.
    return (ab - ag * bg) / math.sqrt(left) if left > 1e-12 else 0.0


def auroc(scores: Sequence[float] | Tensor, right: Sequence[bool] | Tensor) -> float | None:
    """How often a right one scores above a wrong one; ties count half."""
    right_N = torch.as_tensor(right).bool()
    hits, n = int(right_N.sum()), right_N.numel()
    if hits in (0, n):
        return None
    above = float(ranks(_tensor(scores))[right_N].sum()) - hits * (hits + 1) / 2
    return above / (hits * (n - hits))


def interval(
    statistic: Statistic, *columns: Sequence[float] | Tensor, resamples: int = 1000, seed: int = 0
) -> tuple[float, float] | None:
    """95 % of a statistic of points that are drawn with replacement, by the percentile bootstrap.

    Resamples in which it has no value are left out; None where they are more than half.
    """
    tensors = [_tensor(column) for column in columns]
    n = len(tensors[0])
    generator = torch.Generator().manual_seed(seed)
    found: list[float] = []
    for _ in range(resamples if n > 1 else 0):
        drawn = torch.randint(0, n, (n,), generator=generator)
        value = statistic(*(column[drawn] for column in tensors))
        found += [] if value is None else [value]
    if len(found) < _LEAST * resamples:
        return None
    bounds = torch.tensor([(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], dtype=torch.float64)
    low, high = torch.tensor(found, dtype=torch.float64).quantile(bounds).tolist()
    return low, high


def _pearson(a_N: Tensor, b_N: Tensor) -> float | None:
    a_N, b_N = a_N - a_N.mean(), b_N - b_N.mean()
    norm = math.sqrt(float(a_N @ a_N) * float(b_N @ b_N))
    return max(-1.0, min(1.0, float(a_N @ b_N) / norm)) if norm else None


def _tensor(values: Sequence[float] | Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)
