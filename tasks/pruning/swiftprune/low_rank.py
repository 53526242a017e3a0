"""A layer's Hessian as a diagonal plus two rank-one terms: losses and updates in linear time.

E[xxᵀ] ≈ H = diag(d) + UUᵀ, where the columns of U are the mean input of a window's first position
and of all others, each times the root of its weight, and d is what the second moments leave. It is
SwiftPrune's rank-one H = xxᵀ + λI with measured parts: two means, for the first position behaves
unlike the rest, and a diagonal that knows each column's own variance.

- Woodbury: [H⁻¹]_ii = 1/d_i − v_iᵀ(I + UᵀV)⁻¹v_i with V = diag(1/d)U, and the OBS loss of a weight
  is w²/[H⁻¹]_ii.
- With the weights P of a row gone, ΔᵀHΔ is least for the change δ = V_K(I + U_KᵀV_K)⁻¹U_Pᵀw_P of
  the kept weights K: the OBS update of all pruned weights at once. It gives back most of the
  row's response to the two means, through the columns that vary least.

This is this project's own [design]; the paper has neither the second mean nor the update.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.pruning.core.statistics import ColumnStatistics


@dataclass(frozen=True)
class LowRankHessian:
    """diag(diagonal_I) + means_IR means_IRᵀ; float32, positive diagonal, ``R`` = 2."""

    diagonal_I: Tensor
    means_IR: Tensor

    @property
    def scaled_IR(self) -> Tensor:
        """V = diag(1/d) U."""
        return self.means_IR / self.diagonal_I[:, None]


def hessian(statistics: ColumnStatistics, first_weight: float, ridge: float) -> LowRankHessian:
    """The model of a layer's inputs.

    Args:
        first_weight: share of the windows' first positions in the moments; in the calibration
            text it is 1/L, and their size makes too little of it.
        ridge: added to the diagonal, as a part of its mean.
    """
    if not statistics.windows:  # an expert that is sent none of them
        first_weight = 0.0
    firsts = max(statistics.windows, 1)
    others = max(statistics.tokens - statistics.windows, 1)
    rest, first = statistics.rest_sum_I.double() / others, statistics.first_sum_I.double() / firsts
    moments_I = (1 - first_weight) * statistics.rest_energy_I.double() / others
    moments_I = moments_I + first_weight * statistics.first_energy_I.double() / firsts
    means_IR = torch.stack([rest * (1 - first_weight) ** 0.5, first * first_weight**0.5], dim=1)
    diagonal_I = (moments_I - means_IR.square().sum(dim=1)).clamp(min=0)
    diagonal_I = (diagonal_I + ridge * diagonal_I.mean()).clamp(min=1e-12)
    return LowRankHessian(diagonal_I.float(), means_IR.float())


def inverse_diagonal(matrix: LowRankHessian) -> Tensor:
    """[H⁻¹]_ii by Woodbury, float32."""
    diagonal_I, means_IR = matrix.diagonal_I.double(), matrix.means_IR.double()
    scaled_IR = means_IR / diagonal_I[:, None]
    core_RR = torch.eye(means_IR.shape[1], dtype=torch.float64, device=means_IR.device)
    inner_RR = torch.linalg.inv(core_RR + means_IR.T @ scaled_IR)
    return (1 / diagonal_I - ((scaled_IR @ inner_RR) * scaled_IR).sum(dim=1)).float()


def compensate(
    weight_OI: Tensor, pruned_OI: Tensor, matrix: LowRankHessian, rescale: float
) -> Tensor:
    """The kept weights, changed so that each row's outputs stay close; zeros stay zeros.

    First each row is scaled towards its energy before pruning, Σ d w² (``rescale`` = 1 restores it
    in full, 0 not at all), then the update above restores its response to the two means.

    Returns:
        float32, a new tensor.
    """
    weight_OI = weight_OI.float()
    kept_OI = weight_OI.masked_fill(pruned_OI, 0)
    before_O = weight_OI.square() @ matrix.diagonal_I
    after_O = kept_OI.square() @ matrix.diagonal_I
    factor_O = (before_O / after_O.clamp(min=1e-20)).sqrt()
    # A row that lost everything has nothing to scale.
    factor_O = torch.where(after_O > 0, factor_O, torch.ones_like(factor_O))
    kept_OI = kept_OI * (1 + rescale * (factor_O - 1))[:, None]

    means_IR, scaled_IR = matrix.means_IR, matrix.scaled_IR
    rank = means_IR.shape[1]
    lost_OR = (weight_OI - kept_OI) @ means_IR
    products_IS = (means_IR[:, :, None] * scaled_IR[:, None, :]).flatten(start_dim=1)
    stays_OI = (~pruned_OI).float()
    inner_ORR = (stays_OI @ products_IS).view(-1, rank, rank)
    inner_ORR = inner_ORR + torch.eye(rank, device=inner_ORR.device)
    answer_OR = torch.linalg.solve(inner_ORR, lost_OR)
    return kept_OI.addcmul_(stays_OI, answer_OR @ scaled_IR.T)
