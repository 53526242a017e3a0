"""How well a selection stands for its pool, without labels.

Errors are relative distances of means: ‖x̄ − Σwx/Σw‖ / ‖x̄‖. That of n random windows out of N is
known in closed form, √((1/n − 1/N) · tr Cov) / ‖x̄‖ as root mean square, with the unbiased
covariance: nothing has to be drawn to compare with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.selection.coreset.rows import rows_of, sum_of


def mean_error(x_ND: Tensor, index: Sequence[int], weight: Sequence[float]) -> float:
    """Of the weighted mean of the selected rows against the mean of all."""
    mean_D = rows_of(x_ND).mean()
    return float((mean_D - _weighted_mean(x_ND, index, weight)).norm() / mean_D.norm())


def random_error(x_ND: Tensor, count: int) -> float:
    """Root mean square of :func:`mean_error` over ``count`` rows drawn without replacement."""
    total = len(x_ND)
    if count >= total:
        return 0.0
    rows = rows_of(x_ND)
    mean_D = rows.mean()
    squares = sum((part_BD - mean_D).square().sum() for _, part_BD in rows.blocks())
    trace = squares / (total - 1)
    return float((trace * (1 / count - 1 / total)) ** 0.5 / mean_D.norm())


def column_norm_error(squares_NC: Tensor, index: Sequence[int], weight: Sequence[float]) -> float:
    """Mean over columns of how far their norm per token is off.

    Args:
        squares_NC: per window, the sum of squares of each input column of each layer.
    """
    pool_C = rows_of(squares_NC).mean().sqrt()
    chosen_C = _weighted_mean(squares_NC, index, weight).sqrt()
    seen_C = pool_C > 0
    return float(((chosen_C - pool_C).abs() / pool_C)[seen_C].mean())


def _weighted_mean(x_ND: Tensor, index: Sequence[int], weight: Sequence[float]) -> Tensor:
    rows = rows_of(x_ND, torch.tensor(index))
    weight_n = torch.tensor(weight, dtype=torch.float64)
    parts = ((weight_n[part, None] * part_BD).sum(dim=0) for part, part_BD in rows.blocks())
    return sum_of(parts) / weight_n.sum()
