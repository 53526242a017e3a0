"""Losses and updates of Optimal Brain Surgeon under H = diag(d) + UUᵀ, linear in the weights.

Shapes: ``O × I`` of a weight, ``R`` columns of U.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tasks.pruning.core.solve import conjugate_gradients_
from tasks.pruning.sketched_obs.hessian import LowRankHessian


def saliency(matrix: LowRankHessian, kept_share: float) -> Tensor:
    """What removing a weight costs, per squared weight: ``I``, float32, positive.

    OBS removes one weight and lets all others make up for it: 1/[H⁻¹]_ii, which by Woodbury is
    d_i + u_iᵀ(I + Σ_{j≠i} u_j u_jᵀ/d_j)⁻¹u_i. When many weights go at once only those that stay can
    make up, so that each other column counts by ``kept_share``; 1 is OBS itself.
    """
    diagonal_I, columns_IR = matrix.diagonal_I.double(), matrix.directions_IR.double()
    core_RR = _core(columns_IR, columns_IR / diagonal_I[:, None], kept_share)
    # With column i itself in the sum; Sherman-Morrison takes it out again.
    with_I = (torch.linalg.solve(core_RR, columns_IR.T).T * columns_IR).sum(dim=1)
    without_I = with_I / (1 - kept_share * with_I / diagonal_I).clamp(min=1e-12)
    return (diagonal_I + without_I).float()


def compensated_(
    kept_OI: Tensor,
    weight_OI: Tensor,
    stays_OI: Tensor,
    matrix: LowRankHessian,
    kept_share: float,
    steps: int,
) -> Tensor:
    """Change ``kept_OI`` in place so that each row's response to U stays what it was.

    ΔᵀHΔ of a row is least for the change δ = V_K(I + U_KᵀV_K)⁻¹Uᵀ(w − w') of its kept weights K.
    All rows' systems are solved side by side by conjugate gradients, which need only products with
    U and V; I + ``kept_share``·UᵀV, what the system is on average, is the preconditioner.

    Args:
        kept_OI: w', zero where a weight is pruned.
        weight_OI: w, the weights before pruning, float32.
        stays_OI: 1 or 0, float32.
        steps: of the conjugate gradients; the number of directions + 2 solves exactly.
    """
    columns_IR, scaled_IR = matrix.directions_IR, matrix.scaled_IR
    inverse_RR = torch.linalg.inv(_core(columns_IR.double(), scaled_IR.double(), kept_share))
    inverse_RR = inverse_RR.to(columns_IR.dtype)
    residual_OR = (weight_OI - kept_OI) @ columns_IR
    answer_OR = conjugate_gradients_(
        torch.zeros_like(residual_OR),
        residual_OR,
        product=lambda d_OR: d_OR + (d_OR @ scaled_IR.T).mul_(stays_OI) @ columns_IR,
        precondition=lambda r_OR: r_OR @ inverse_RR,
        steps=steps,
    )
    return kept_OI.addcmul_(answer_OR @ scaled_IR.T, stays_OI)


def _core(columns_IR: Tensor, scaled_IR: Tensor, kept_share: float) -> Tensor:
    identity_RR = torch.eye(columns_IR.shape[1], dtype=columns_IR.dtype, device=columns_IR.device)
    return identity_RR + kept_share * (columns_IR.T @ scaled_IR)
