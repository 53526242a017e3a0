"""Selection without sorting: an exponentially weighted scan, its z-scores and one threshold.

A row is scanned left to right with the state (μ, δ), as TCP estimates its round-trip time (RFC
6298): before a score L is taken in, z = (L − μ)/δ; then δ ← (1−β)δ + β|L−μ| and μ ← (1−α)μ + αL.
A weight is pruned when z ≤ m. The state never depends on decisions, so z is computed for a whole
matrix at once, in blocks of columns (two small matrix products a block), and m is the target
quantile of z: estimated on a sample of rows, then corrected by counting until the matrix is within
the tolerance. Nothing is sorted. Ties and zeros that no threshold parts are counted out.

The state starts at the row's mean and mean absolute deviation, so the first weights are judged
like the others.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from tasks.pruning.core import masks

_BLOCKS = {"cpu": 64, "cuda": 256}
"""Columns scanned at once; a larger block wastes work on the triangular products."""
_SAMPLED = 16384
"""Scores of whole rows that the first guess of the threshold looks at."""
_FLOOR = 1e-12
_STEP = 0.015
"""Quantiles this far on either side of the target give the slope of the correction."""


@lru_cache(maxsize=16)
def _scan_matrices(
    rate: float, width: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """(A, d): state before column k = state·d_k + Σ_j x_j A_jk; ``width`` + 1 states."""
    steps = torch.arange(width + 1, dtype=torch.float64)
    age = steps[None, :] - 1 - steps[:width, None]
    weights = rate * (1.0 - rate) ** age.clamp(min=0)
    triangular = torch.where(age >= 0, weights, torch.zeros_like(weights))
    decay = (1.0 - rate) ** steps
    return triangular.to(device, dtype), decay.to(device, dtype)


def _before_each_column(values_OB: Tensor, state_O1: Tensor, rate: float) -> Tensor:
    """The average before each column of a block, and after the last: ``O × (B+1)``."""
    width, dtype, device = values_OB.shape[1], values_OB.dtype, values_OB.device
    triangular, decay = _scan_matrices(rate, width, dtype, device)
    return torch.addmm(state_O1 * decay, values_OB, triangular)


def z_scores(scores_OI: Tensor, alpha: float, beta: float, shrink: float = 0.0) -> Tensor:
    """How far each score lies above the running mean of its row, in running deviations.

    Args:
        scores_OI: finite, float32 or float64.
        alpha: rate of the mean; its memory is about 1/alpha columns.
        beta: rate of the mean absolute deviation.
        shrink: with s > 0 a score is judged by (1−s)·(μ, δ) + s·(the matrix's mean of both), which
            lets rows that matter more keep a little more; the scan itself is unchanged.
    """
    mean_O1 = scores_OI.mean(dim=1, keepdim=True)
    deviation_O1 = (scores_OI - mean_O1).abs_().mean(dim=1, keepdim=True)
    matrix_mean, matrix_deviation = mean_O1.mean(), deviation_O1.mean()
    z_OI = torch.empty_like(scores_OI)
    size = _BLOCKS.get(scores_OI.device.type, _BLOCKS["cuda"])
    for start in range(0, scores_OI.shape[1], size):
        block_OB = scores_OI[:, start : start + size]
        width = block_OB.shape[1]
        means = _before_each_column(block_OB, mean_O1, alpha)
        judged_OB = block_OB - means[:, :width]
        deviations = _before_each_column(judged_OB.abs(), deviation_O1, beta)
        mean_O1, deviation_O1 = means[:, width:], deviations[:, width:].clone()
        scale_OB = deviations[:, :width]
        if shrink:
            judged_OB.add_(means[:, :width] - matrix_mean, alpha=shrink)
            scale_OB.mul_(1 - shrink).add_(shrink * matrix_deviation)
        z = z_OI[:, start : start + width]
        torch.div(judged_OB, scale_OB.clamp_(min=_FLOOR), out=z)
    return z_OI


def threshold(
    z_OI: Tensor, fraction: float, generator: torch.Generator, tolerance: float = 0.001
) -> float:
    """m such that a ``fraction`` of z lies at or below it, within ``tolerance`` where ties allow.

    The first guess is the quantile of a sample of rows (``kthvalue``, which selects and does not
    sort). Counts over the whole matrix correct it: first along the slope of the sample's quantiles,
    then, should that not do, by bisection.
    """
    rows, columns = z_OI.shape
    sample, wanted = z_OI, -(-_SAMPLED // columns)
    if rows > wanted:
        chosen = torch.randperm(rows, generator=generator)[:wanted]
        sample = z_OI[chosen.to(z_OI.device)]
    flat = sample.reshape(-1)

    def quantile(part: float) -> float:
        return float(flat.kthvalue(max(1, min(flat.numel(), round(part * flat.numel())))).values)

    low, high = max(fraction - _STEP, 0.0), min(fraction + _STEP, 1.0)
    slope = (quantile(high) - quantile(low)) / (high - low)
    guess = quantile(fraction)
    for _ in range(3):
        error = _excess(z_OI, fraction, guess)
        if abs(error) <= tolerance:
            return guess
        guess -= error * slope
    return _bisected(z_OI, fraction, guess, float(flat.abs().mean()), tolerance)


def _excess(z_OI: Tensor, fraction: float, m: float) -> float:
    return float(torch.count_nonzero(z_OI <= m)) / z_OI.numel() - fraction


def _bisected(z_OI: Tensor, fraction: float, guess: float, scale: float, tolerance: float) -> float:
    step = max(scale, _FLOOR) * 0.05
    low = high = guess
    while _excess(z_OI, fraction, low) > 0:
        low, step = low - step, 2 * step
    while _excess(z_OI, fraction, high) < 0:
        high, step = high + step, 2 * step
    for _ in range(40):
        middle = (low + high) / 2
        error = _excess(z_OI, fraction, middle)
        if abs(error) <= tolerance:
            return middle
        low, high = (middle, high) if error < 0 else (low, middle)
    return high


def select(
    scores_OI: Tensor,
    fraction: float,
    alpha: float,
    generator: torch.Generator,
    shrink: float = 0.0,
    zero_OI: Tensor | None = None,
) -> Tensor:
    """Mark a ``fraction`` of the weights as pruned, within half a point of the matrix; β = α.

    Scores of zero go in any case, as far as the fraction reaches. Where they or ties would miss it,
    the count is exact: weights that are zero already go first, then scores of zero, and of equal z
    the lowest scores.

    Args:
        zero_OI: weights that are zero already.
    """
    # The sum is finite only where all are, and several times cheaper to ask.
    if not torch.isfinite(scores_OI.sum()) and not torch.isfinite(scores_OI).all():
        raise ValueError(
            "a score is NaN or infinite: the weights or the calibration statistics are not finite"
        )
    z_OI = z_scores(scores_OI, alpha, alpha, shrink)
    free_OI = scores_OI == 0
    if zero_OI is not None:
        # Weights of inputs that are always zero score zero too, and are none yet.
        free_OI |= zero_OI
        scores_OI = scores_OI.masked_fill(zero_OI, -torch.inf)
    pruned_OI = (z_OI <= threshold(z_OI, fraction, generator)).logical_or_(free_OI)
    wanted, entries = masks.count_of(fraction, scores_OI.numel()), scores_OI.numel()
    found = int(torch.count_nonzero(pruned_OI))
    if abs(found - wanted) <= max(1, masks.TOLERANCE * entries) and found < entries:
        return pruned_OI
    return _exact(scores_OI, z_OI.masked_fill(free_OI, -torch.inf), wanted)


def _exact(scores_OI: Tensor, z_OI: Tensor, count: int) -> Tensor:
    """The ``count`` lowest z, and of those at the cut the lowest scores."""
    if count == 0:
        return torch.zeros_like(scores_OI, dtype=torch.bool)
    cut = z_OI.reshape(-1).kthvalue(count).values
    below_OI = z_OI < cut
    at_cut_OI = scores_OI.masked_fill(z_OI != cut, torch.inf)
    return below_OI | masks.lowest_by_count(at_cut_OI, count - int(below_OI.sum()))
