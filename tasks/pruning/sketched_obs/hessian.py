"""A layer's Hessian as a diagonal plus a few directions, from sums of one pass.

E[xxᵀ] ≈ H = diag(d) + UUᵀ. Two columns of U are the mean input of the windows' first positions and
of all others, each times the root of its weight. The rest are the leading directions of the other
positions' covariance, in units of each column's own deviation: a column that varies little must
not be hidden by one that varies much. d is what the second moments leave, and a ridge.

What the sample cannot tell is not modelled. T tokens, or I columns, span no more than T or I
directions; as many would hold all of the inputs' energy and leave d rounding errors, and far fewer
fit these tokens and no others. So at most T/4 and I/2 directions are taken. With few tokens the
columns of d are uncertain too, by about √(2/T): the ridge, which draws them towards their mean,
grows as 400/T. Where the inputs lie in a few directions, d is still a small part of their mean
square. All of it is relative: inputs of another size make the same masks. With 400 tokens and 192
columns or more, 96 directions and the ridge are taken as they are asked for.

The directions come from a sketch Y = AΩ with a Gaussian Ω: with Ω = QR, YR⁻¹ = AQ and A is taken
for (AQ)(QᵀAQ)⁺(AQ)ᵀ, the Nyström approximation, which is exact for a matrix of rank below Ω's
columns and never exceeds A (Halko, Martinsson & Tropp 2011, arXiv 0909.4061, section 5.5).

Shapes: ``I`` in-features, ``S`` columns of the sketch, ``R`` columns of U.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from tasks.pruning.core.statistics import ColumnStatistics, probe

_NEGLIGIBLE = 1e-4
"""Eigenvalues of QᵀAQ below this part of the largest are noise of float32 sums."""
_SAMPLES, _COLUMNS = 4, 2
"""Tokens and columns that a direction takes at least."""
_MANY = 400
"""Tokens from which on the ridge is what was asked for."""
_LEAST = 1e-5
"""The least d, as a part of the inputs' mean square: above the noise of float32 sums, and what
float32 can solve with."""


@dataclass(frozen=True, eq=False)
class LowRankHessian:
    """diag(diagonal_I) + directions_IR directions_IRᵀ; float32, positive diagonal."""

    diagonal_I: Tensor
    directions_IR: Tensor

    @property
    def scaled_IR(self) -> Tensor:
        """V = diag(1/d) U."""
        return self.directions_IR / self.diagonal_I[:, None]


@lru_cache(maxsize=1)
def low_rank_hessian(
    statistics: ColumnStatistics, directions: int, first_weight: float, ridge: float
) -> LowRankHessian:
    """The model of an input; kept for the next layer, which often shares it.

    Args:
        directions: beside the two means, at most; 0 needs no sketch.
        first_weight: share of the windows' first positions in the moments. In a calibration text
            it is 1/L, and their size makes too little of it.
        ridge: added to the diagonal, as a part of its mean; with few tokens it is larger.

    Raises:
        ValueError: the sums are not finite.
    """
    if not statistics.windows:  # an expert that is sent none of them
        first_weight = 0.0
    firsts = max(statistics.windows, 1)
    others = max(statistics.tokens - statistics.windows, 1)
    rest_share = 1 - first_weight
    others_I = rest_share * statistics.rest_energy_I.double() / others
    moments_I = others_I + first_weight * statistics.first_energy_I.double() / firsts
    if not torch.isfinite(moments_I).all():
        raise ValueError("the layer's inputs on the calibration windows are not finite")
    means_IR = torch.stack(
        [
            statistics.rest_sum_I.double() / others * rest_share**0.5,
            statistics.first_sum_I.double() / firsts * first_weight**0.5,
        ],
        dim=1,
    )
    # Of the others where there are any: first positions may dwarf them, and would hide them.
    size = float(others_I.mean()) or float(moments_I.mean()) or 1.0
    least = max(_LEAST * size, torch.finfo(torch.float32).tiny)
    ridge *= max(1.0, _MANY / others)
    directions = min(directions, others // _SAMPLES, len(moments_I) // _COLUMNS)
    columns_IR = means_IR
    if directions:
        assert statistics.sketch_IS is not None, "the statistics hold no sketch"
        sketch_IS = statistics.sketch_IS.double() * (rest_share / others)
        deviation_I = _deviation(moments_I, means_IR, ridge, least)
        leading_IR = _leading(sketch_IS, means_IR[:, :1], deviation_I, directions)
        columns_IR = torch.cat([means_IR, leading_IR], dim=1)
    rest_I = (moments_I - columns_IR.square().sum(dim=1)).clamp(min=0)
    diagonal_I = (rest_I + ridge * rest_I.mean()).clamp(min=least)
    return LowRankHessian(diagonal_I.float(), columns_IR.float())


def _deviation(moments_I: Tensor, means_IR: Tensor, ridge: float, least: float) -> Tensor:
    variance_I = (moments_I - means_IR.square().sum(dim=1)).clamp(min=0)
    return (variance_I + ridge * variance_I.mean()).clamp(min=least).sqrt()


def _leading(sketch_IS: Tensor, mean_I1: Tensor, deviation_I: Tensor, count: int) -> Tensor:
    """The leading directions of the covariance in units of ``deviation_I``; at most ``count``.

    Args:
        sketch_IS: Cov·G + m(mᵀG), ``G`` the probe and m ``mean_I1``.
    """
    probe_IS = probe(*sketch_IS.shape).to(sketch_IS)
    centred_IS = sketch_IS - mean_I1 @ (mean_I1.T @ probe_IS)
    product_IS = centred_IS / deviation_I[:, None]  # Y = AΩ with A = D⁻¹ Cov D⁻¹, Ω = DG
    upper_SS = torch.linalg.qr(probe_IS * deviation_I[:, None], mode="r").R
    product_IS = torch.linalg.solve_triangular(upper_SS, product_IS, upper=True, left=False)
    basis_IS = torch.linalg.solve_triangular(
        upper_SS, probe_IS * deviation_I[:, None], upper=True, left=False
    )
    core_SS = basis_IS.T @ product_IS
    values_S, vectors_SS = torch.linalg.eigh((core_SS + core_SS.T) / 2)
    known = values_S > _NEGLIGIBLE * values_S[-1].clamp(min=1e-30)
    half_IK = product_IS @ (vectors_SS[:, known] * values_S[known].rsqrt())  # A ≈ half·halfᵀ
    _, turned_KK = torch.linalg.eigh(half_IK.T @ half_IK)
    return deviation_I[:, None] * (half_IK @ turned_KK[:, -count:])
