"""How well a selection stands for its pool, without labels.

Errors are relative distances of means: ‖x̄ − Σwx/Σw‖ / ‖x̄‖. That of n random windows out of N is
known in closed form, √((1/n − 1/N) · tr Cov) / ‖x̄‖ as root mean square, with the unbiased
covariance: nothing has to be drawn to compare with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mean_error(x_ND: Tensor, index: Sequence[int], weight: Sequence[float]) -> float:
    """Of the weighted mean of the selected rows against the mean of all."""
    x_ND = x_ND.to(torch.float64)
    weight_n = torch.tensor(weight, dtype=torch.float64)
    chosen_D = (weight_n[:, None] * x_ND[list(index)]).sum(dim=0) / weight_n.sum()
    mean_D = x_ND.mean(dim=0)
    return float((mean_D - chosen_D).norm() / mean_D.norm())


def random_error(x_ND: Tensor, count: int) -> float:
    """Root mean square of :func:`mean_error` over ``count`` rows drawn without replacement."""
    total = len(x_ND)
    if count >= total:
        return 0.0
    x_ND = x_ND.to(torch.float64)
    mean_D = x_ND.mean(dim=0)
    trace = (x_ND - mean_D).square().sum() / (total - 1)
    return float((trace * (1 / count - 1 / total)).sqrt() / mean_D.norm())


def column_norm_error(squares_NC: Tensor, index: Sequence[int], weight: Sequence[float]) -> float:
    """Mean over columns of how far their norm per token is off.

    Args:
        squares_NC: per window, the sum of squares of each input column of each layer.
    """
    weight_n = torch.tensor(weight, dtype=torch.float64)
    squares_NC = squares_NC.to(torch.float64)
    pool_C = squares_NC.mean(dim=0).sqrt()
    chosen_C = ((weight_n[:, None] * squares_NC[list(index)]).sum(0) / weight_n.sum()).sqrt()
    seen_C = pool_C > 0
    return float(((chosen_C - pool_C).abs() / pool_C)[seen_C].mean())
