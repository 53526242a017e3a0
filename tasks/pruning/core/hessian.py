"""The Hessian of a layer's inputs and the Cholesky factor of its inverse.

With H = 2XᵀX/N + λI and λ = damping·mean(diag 2XᵀX/N), second-order pruning needs U, the upper
Cholesky factor of H⁻¹ (UᵀU = H⁻¹): U_cc² is the leading entry of the inverse of H without the
columns before c, and U_c,:/U_cc the way in which the later weights make up for weight c.

U is never made from H⁻¹: H = RRᵀ with R upper triangular gives U = R⁻¹ and U_cc = 1/R_cc, one
factorisation in place of two and an inversion.

Sums and factors are float32. On a GPU, inputs of 16 bits are multiplied as they are: such products
are exact in float32, and it adds them up many times as fast. ``tf32`` does so with float32 inputs
as well, which rounds them to 10 bits first.

λI bounds the condition number by (columns + damping)/damping; on SmolLM2 the median over inputs of
the worst pivot's deviation from float64 is 2e-5 and the largest is 1e-3, which no perplexity shows
(tests/benchmarks/sparsegpt.md). Exact pivots R_cc² are at least λ: where rounding leaves less than
half of it, the damping is raised tenfold until it does not, which is recorded.

Shapes: ``T`` tokens, ``I`` in-features, ``P`` columns of a panel.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tasks.pruning.core.methods import Collector
from tasks.pruning.core.notes import DAMPED_MORE

PANELS = {"cpu": 384, "cuda": 2048}
"""Columns of a product when XᵀX is accumulated: only the panels on and above the diagonal are."""
_GIVEN_UP = "the sum over inputs is given up once its factor is made"


@dataclass(frozen=True)
class InverseFactor:
    """The upper Cholesky factor of H⁻¹, row by row in units of its diagonal.

    Attributes:
        rows_II: U_c,: / U_cc, unit upper triangular.
        pivot_I: 1 / U_cc², what a squared weight is multiplied with to give its loss.
        damping: what H was damped with.
    """

    rows_II: Tensor
    pivot_I: Tensor
    damping: float


def require_finite(hessian_II: Tensor) -> None:
    """
    Raises:
        ValueError: the sum over the inputs is not finite.
    """
    if not torch.isfinite(torch.stack(torch.aminmax(hessian_II))).all():
        raise ValueError("the layer's inputs on the calibration windows are not finite")


def damped_root(fresh: Callable[[], Tensor], damping: float, mean: float) -> tuple[Tensor, float]:
    """The lower Cholesky factor of a matrix of sums with damping·mean·I added to it, float32.

    Exact pivots are at least what is added: where rounding leaves less than half of it, the damping
    is raised tenfold until it does not.

    Args:
        fresh: returns a new copy of the matrix, finite, each time; it is overwritten.
        mean: above 0 and finite.

    Returns:
        The factor, and what the matrix was damped with.
    """
    if not 0 < mean < math.inf:
        raise ValueError(f"a damping in units of {mean} is none")
    while True:
        damped_II = fresh()
        damped_II.diagonal().add_(damping * mean)
        root_II, failed = torch.linalg.cholesky_ex(damped_II)
        del damped_II  # a matrix of a wide layer is gigabytes
        if not failed and bool((root_II.diagonal().square() >= 0.5 * damping * mean).all()):
            return root_II, damping
        del root_II
        damping *= 10


def inverse_factor(hessian_II: Tensor, damping: float) -> InverseFactor:
    """Factor the inverse of H + damping·mean(diag H)·I.

    Raises:
        ValueError: when H is not finite.
    """
    require_finite(hessian_II)
    like = {"dtype": hessian_II.dtype, "device": hessian_II.device}
    mean = float(hessian_II.diagonal().mean())
    if mean == 0.0:
        columns = len(hessian_II)
        return InverseFactor(torch.eye(columns, **like), torch.ones(columns, **like), damping)
    hessian = [hessian_II]
    del hessian_II
    # Reversed, the lower factor of the reversed matrix is an upper one: H = RRᵀ.
    lower_II, damping = damped_root(lambda: hessian[0].flip(0, 1), damping, mean)
    hessian.clear()
    root_II = lower_II.flip(0, 1)
    del lower_II
    pivot_I = root_II.diagonal().square()
    identity_II = torch.eye(len(root_II), **like)
    unit_II = root_II.div_(root_II.diagonal().clone())
    rows_II = torch.linalg.solve_triangular(unit_II, identity_II, upper=True, unitriangular=True)
    return InverseFactor(rows_II, pivot_I, damping)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Products of float32 on a GPU inside; they are as they were afterwards."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


class Hessian(Collector):
    """Σ XᵀX of one input, and then the factor of H's inverse, which takes its place.

    Args:
        tf32: on a GPU, round float32 inputs to TF32.
    """

    def __init__(
        self, in_features: int, device: torch.device, damping: float, *, tf32: bool = False
    ) -> None:
        self._sum_II: Tensor | None = torch.zeros(in_features, in_features, device=device)
        self.tokens = 0
        self._damping = damping
        self._tf32 = tf32
        self._damped_more = False

    def add(self, inputs_NLI: Tensor) -> None:
        inputs_TI = inputs_NLI.flatten(0, -2)
        kind = inputs_TI.device.type
        # Only a GPU's libraries add products of 16 bits up in float32.
        halves = kind == "cuda" and inputs_TI.dtype in (torch.bfloat16, torch.float16)
        if not halves:
            inputs_TI = inputs_TI.float()
        size = PANELS.get(kind, PANELS["cuda"])
        assert self._sum_II is not None, _GIVEN_UP
        with _tf32(self._tf32):
            for start in range(0, inputs_TI.shape[1], size):
                sum_PJ = self._sum_II[start : start + size, start:]
                panel_TP, right_TJ = inputs_TI[:, start : start + size], inputs_TI[:, start:]
                if halves:
                    sum_PJ += torch.mm(panel_TP.T, right_TJ, out_dtype=torch.float32)
                else:
                    sum_PJ.addmm_(panel_TP.T, right_TJ)
        self.tokens += len(inputs_TI)

    def hessian(self) -> Tensor:
        """H = 2XᵀX/N, undamped; there is none any more once a factor was asked for."""
        assert self._sum_II is not None, _GIVEN_UP
        hessian_II = self._sum_II.triu().mul_(2.0 / self.tokens)
        return hessian_II.add_(hessian_II.triu(1).T)

    @cached_property
    def factor(self) -> InverseFactor:
        """Computed once, whichever and however many layers share this input."""
        hessian = [self.hessian()]
        self._sum_II = None
        return self.told(inverse_factor(hessian.pop(), self._damping))  # the only reference to it

    def told(self, factor: InverseFactor) -> InverseFactor:
        """Warn of a factor of this input that had to be damped more, and record it."""
        self._damped_more = factor.damping > self._damping
        if self._damped_more:
            warnings.warn(
                f"a Hessian of {len(factor.pivot_I)} columns is not positive definite in float32 "
                f"with damping {self._damping:g}; {factor.damping:g} was used",
                RuntimeWarning,
                stacklevel=2,
            )
        return factor

    def figures(self) -> Mapping[str, float]:
        return {DAMPED_MORE: float(self._damped_more)}
