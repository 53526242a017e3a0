"""Every mask any method makes: which of a matrix's scores are lowest.

Scores compare along rows (``O`` out-features × ``I`` in-features). A mask is a boolean tensor,
True where the weight is **pruned**. Counts are exact; weights that are zero already are part of
them. Of equal scores in a row or matrix the one with the lower index goes first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tasks.pruning.core.refusals import UnsupportedLayerError
from tasks.pruning.core.targets import Fraction, SemiStructured, Target

TOLERANCE = 0.005
"""How far the share of zeros of a matrix may be from what was asked; half a point."""
_FEW_ROWS = 128
"""Below so many rows a GPU sorts them rather than selecting within each."""
_SMALL_GROUP = 8
"""Largest group whose scores a GPU compares with each other, one kernel a pair."""


def lowest_per_row(scores_OI: Tensor, fraction: float, zero_OI: Tensor | None = None) -> Tensor:
    """Mark the ``round(fraction · I)`` lowest scores of each row, in time linear in ``I``.

    Where that cannot give the matrix its share, rows differ: by one, where rounding alone would
    miss it by more than :data:`TOLERANCE`, or leave rows whole or empty; by more, where rows hold
    more zeros already. Then the matrix's count is met exactly, unless it has more zeros already.

    Args:
        zero_OI: weights that are zero already, which go first.

    Raises:
        ValueError: when a score is NaN.
    """
    if torch.isnan(scores_OI).any():
        raise ValueError("a score is NaN: the weights or the calibration statistics are not finite")
    columns = scores_OI.shape[1]
    count = round(fraction * columns)
    even = 0 < count < columns and abs(count / columns - fraction) <= TOLERANCE
    if zero_OI is None:
        zero_OI = torch.zeros_like(scores_OI, dtype=torch.bool)
    else:
        # Weights of inputs that are always zero score as low as weights that are zero.
        scores_OI = scores_OI.masked_fill(zero_OI, -torch.inf)
    if even and int(zero_OI.sum(dim=1).max()) <= count:
        return _lowest(scores_OI, count)
    return _spread(scores_OI, fraction, zero_OI)


def _lowest(scores_OI: Tensor, count: int) -> Tensor:
    """Mark ``count`` scores of each row."""
    if count == 0:
        return torch.zeros_like(scores_OI, dtype=torch.bool)
    if scores_OI.device.type == "cuda" and len(scores_OI) < _FEW_ROWS:
        # A GPU selects with one of its many processors a row, and sorts with all of them.
        threshold_O1 = scores_OI.sort(dim=1).values[:, count - 1, None]
    else:
        threshold_O1 = scores_OI.kthvalue(count, dim=1, keepdim=True).values
    pruned_OI = scores_OI <= threshold_O1
    if int(pruned_OI.sum()) != count * scores_OI.shape[0]:
        pruned_OI = _break_ties(scores_OI, threshold_O1, count)
    return pruned_OI


def _break_ties(scores_OI: Tensor, threshold_O1: Tensor, count: int) -> Tensor:
    below_OI = scores_OI < threshold_O1
    tied_OI = scores_OI == threshold_O1
    missing_O1 = count - below_OI.sum(dim=1, keepdim=True)
    return below_OI | (tied_OI & (tied_OI.cumsum(dim=1) <= missing_O1))


def _spread(scores_OI: Tensor, fraction: float, zero_OI: Tensor) -> Tensor:
    """As many zeros in each row as all have, but for one more or what is zero already.

    Args:
        scores_OI: -inf where a weight is zero already.
    """
    columns = scores_OI.shape[1]
    wanted = count_of(fraction, scores_OI.numel())
    zeros_O = zero_OI.sum(dim=1)
    if int(zeros_O.sum()) >= wanted:
        return zero_OI.clone()
    # The most that every row can have without exceeding the count; 0 always fits.
    low, high = 0, columns
    while high - low > 1:
        middle = (low + high) // 2
        fits = int(zeros_O.clamp(min=middle).sum()) <= wanted
        low, high = (middle, high) if fits else (low, middle)
    full_O = zeros_O > low
    pruned_OI = torch.where(full_O[:, None], zero_OI, _lowest(scores_OI, low))
    missing = wanted - int(pruned_OI.sum())
    if missing:
        # Of the next scores of the other rows, the lowest go.
        rows_R = (~full_O).nonzero()[:, 0]
        left_RI = scores_OI[rows_R].clamp(max=torch.finfo(scores_OI.dtype).max)
        next_R, column_R = left_RI.masked_fill(pruned_OI[rows_R], torch.inf).min(dim=1)
        more_R = _lowest(next_R[None], missing)[0]
        pruned_OI[rows_R[more_R], column_R[more_R]] = True
    return pruned_OI


def count_of(fraction: float, weights: int) -> int:
    """How many of a matrix's weights are a fraction of them; at least one stays."""
    return min(round(fraction * weights), weights - 1)


def lowest_of_matrix(scores_OI: Tensor, fraction: float, zero_OI: Tensor | None = None) -> Tensor:
    """Mark the ``round(fraction · O · I)`` lowest scores of the whole matrix, all but one at most.

    Args:
        zero_OI: weights that are zero already, which go first; where there are more, they all go.
    """
    flat = zero_OI.reshape(1, -1) if zero_OI is not None else None
    return lowest_per_row(scores_OI.reshape(1, -1), fraction, flat).view_as(scores_OI)


def lowest_by_count(scores_OI: Tensor, count: int) -> Tensor:
    """Mark the ``count`` lowest scores of the whole matrix; of equal ones, column after column.

    So matrices of one value lose as much in every row.
    """
    return _lowest(scores_OI.T.reshape(1, -1), count).view(scores_OI.T.shape).T


def lowest_of_groups(scores_OI: Tensor, keep: int, group: int) -> Tensor:
    """Mark all but the ``keep`` highest scores of every ``group`` consecutive ones of a row.

    Which of several equal scores goes is ``torch.topk``'s choice, as in Wanda's code; on a GPU, in
    small groups, the one with the lower index. Weights that were quantised tie often, and then the
    choice is no detail: in 15 % of SmolLM2's groups the magnitudes on both sides of the cut are
    equal, and magnitude pruning to 2:4 differs by a factor of two in perplexity between the rules
    (tests/benchmarks/ties.py).

    Raises:
        UnsupportedLayerError: when ``group`` does not divide the number of in-features.
    """
    rows, columns = scores_OI.shape
    if columns % group:
        raise UnsupportedLayerError(
            f"{keep}:{group} needs in-features divisible by {group}; this layer has {columns}"
        )
    grouped = scores_OI.reshape(rows * columns // group, group)
    if torch.isnan(grouped).any():
        raise ValueError("a score is NaN: the weights or the calibration statistics are not finite")
    return lowest_in_groups(grouped, keep).view(rows, columns)


def lowest_in_groups(scores_NG: Tensor, keep: int) -> Tensor:
    """:func:`lowest_of_groups` of one group a row; nothing is checked."""
    group = scores_NG.shape[1]
    if scores_NG.device.type == "cuda" and group <= _SMALL_GROUP:
        return ranks_in_groups(scores_NG) < group - keep
    lowest = scores_NG.topk(group - keep, dim=1, largest=False).indices
    return torch.zeros_like(scores_NG, dtype=torch.bool).scatter_(1, lowest, True)


def ranks_in_groups(scores_NG: Tensor) -> Tensor:
    """How many of a row go before each of its scores, by comparing all pairs; int8."""
    ranks_NG = torch.zeros(scores_NG.shape, dtype=torch.int8, device=scores_NG.device)
    columns = scores_NG.unbind(1)
    for i, mine_N in enumerate(columns):
        for j, other_N in enumerate(columns):
            if j != i:
                ranks_NG[:, i] += other_N <= mine_N if j < i else other_N < mine_N
    return ranks_NG


def lowest(
    scores_OI: Tensor, target: Target, *, across: str = "row", zero_OI: Tensor | None = None
) -> Tensor:
    """The mask of ``target``: ``across`` is ``row`` or ``layer`` and matters to fractions only.

    Args:
        zero_OI: weights that are zero already, which go first.
    """
    if isinstance(target, SemiStructured):
        if zero_OI is not None:
            scores_OI = scores_OI.masked_fill(zero_OI, -torch.inf)
        return lowest_of_groups(scores_OI, target.keep, target.group)
    assert isinstance(target, Fraction)
    select = lowest_of_matrix if across == "layer" else lowest_per_row
    return select(scores_OI, target.value, zero_OI)
