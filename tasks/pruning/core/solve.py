"""Many symmetric positive systems side by side, a row each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]

_SOLVED = 1e-12
"""Part of a row's first residual, squared, below which float32 tells nothing any more: what came
after would be quotients of rounding errors, which grow without bound."""


def conjugate_gradients_(
    answer_OX: Tensor, residual_OX: Tensor, product: Map, precondition: Map, steps: int
) -> Tensor:
    """Improve the solutions of ``O`` systems in ``X`` unknowns, in place.

    Args:
        answer_OX: where they begin, and what is returned.
        residual_OX: right-hand sides less the products of the answers; used up.
        product: rows → rows times their matrices.
        precondition: rows → a new tensor, rows times about their matrices' inverses. What it
            leaves zero stays as it is in the answer.
        steps: at most; a row that is solved to float32's precision stays as it is.
    """
    direction_OX = precondition(residual_OX)
    size_O1 = (residual_OX * direction_OX).sum(dim=1, keepdim=True)
    least_O1 = _SOLVED * size_O1
    for _ in range(steps):
        product_OX = product(direction_OX)
        curvature_O1 = (direction_OX * product_OX).sum(dim=1, keepdim=True)
        step_O1 = torch.where(size_O1 > least_O1, _quotient(size_O1, curvature_O1), 0.0)
        answer_OX.addcmul_(step_O1, direction_OX)
        residual_OX.addcmul_(step_O1, product_OX, value=-1)
        solved_OX = precondition(residual_OX)
        before_O1, size_O1 = size_O1, (residual_OX * solved_OX).sum(dim=1, keepdim=True)
        direction_OX = solved_OX.addcmul_(_quotient(size_O1, before_O1), direction_OX)
    return answer_OX


def _quotient(above_O1: Tensor, below_O1: Tensor) -> Tensor:
    """0 where nothing is left."""
    return torch.where(below_O1 > 0, above_O1 / below_O1, torch.zeros_like(below_O1))
