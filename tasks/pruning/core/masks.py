"""Every mask any method makes: which of a matrix's scores are lowest.

Scores compare along rows (``O`` out-features × ``I`` in-features). A mask is a boolean tensor,
True where the weight is **pruned**. Counts are exact. Of equal scores in a row or matrix the one
with the lower index goes first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tasks.pruning.core.methods import UnsupportedLayerError
from tasks.pruning.core.targets import Fraction, SemiStructured, Target


def lowest_per_row(scores_OI: Tensor, fraction: float) -> Tensor:
    """Mark the ``round(fraction · I)`` lowest scores of each row, in time linear in ``I``.

    Raises:
        ValueError: when a score is NaN.
    """
    if torch.isnan(scores_OI).any():
        raise ValueError("a score is NaN: the weights or the calibration statistics are not finite")
    count = round(fraction * scores_OI.shape[1])
    if count == 0:
        return torch.zeros_like(scores_OI, dtype=torch.bool)
    if count >= scores_OI.shape[1]:
        return torch.ones_like(scores_OI, dtype=torch.bool)
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


def lowest_of_matrix(scores_OI: Tensor, fraction: float) -> Tensor:
    """Mark the ``round(fraction · O · I)`` lowest scores of the whole matrix."""
    return lowest_per_row(scores_OI.reshape(1, -1), fraction).view_as(scores_OI)


def lowest_of_groups(scores_OI: Tensor, keep: int, group: int) -> Tensor:
    """Mark all but the ``keep`` highest scores of every ``group`` consecutive ones of a row.

    Which of several equal scores goes is ``torch.topk``'s choice, as in Wanda's code. Weights that
    were quantised tie often, and then the choice is no detail: in 15 % of SmolLM2's groups
    the magnitudes on both sides of the cut are equal, and magnitude pruning to 2:4 differs by a
    factor of two in perplexity between the rules (tests/benchmarks/ties.py).

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
    lowest = grouped.topk(group - keep, dim=1, largest=False).indices
    mask = torch.zeros_like(grouped, dtype=torch.bool).scatter_(1, lowest, True)
    return mask.view(rows, columns)


def lowest(scores_OI: Tensor, target: Target, *, across: str = "row") -> Tensor:
    """The mask of ``target``: ``across`` is ``row`` or ``layer`` and matters to fractions only."""
    if isinstance(target, SemiStructured):
        return lowest_of_groups(scores_OI, target.keep, target.group)
    assert isinstance(target, Fraction)
    select = lowest_of_matrix if across == "layer" else lowest_per_row
    return select(scores_OI, target.value)
