"""Scaling the weights that stay towards what their row was, and the options of that.

Without it the error of a layer's output is lower and the model's perplexity higher, by a tenth and
more at 2:4 (``tests/benchmarks/sketched_obs.md``): error does not predict perplexity here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.pruning.core.methods import OneShotMethod, option
from tasks.pruning.core.targets import SemiStructured, Target


@dataclass(frozen=True, kw_only=True)
class CompensatingMethod(OneShotMethod):
    """Scales the weights that stay, and then changes them by conjugate gradients."""

    rescale: float = option(
        0.75, "Fractions: how far a row's energy is restored before compensation.", ge=0, le=1
    )
    rescale_groups: float = option(1.0, "The same for keep:group.", ge=0, le=1)
    steps: int = option(8, "Conjugate gradient steps of the compensation; 0: none.", ge=0, le=1024)

    def restored(self, target: Target) -> float:
        """How far a row's energy is restored."""
        return self.rescale_groups if isinstance(target, SemiStructured) else self.rescale


def rescaled(weight_OI: Tensor, stays_OI: Tensor, diagonal_I: Tensor, part: float) -> Tensor:
    """The weights that stay, scaled towards each row's energy Σ d w² before; float32.

    Args:
        weight_OI: before pruning, ``O`` out-features × ``I`` in-features, float32.
        stays_OI: 1 or 0, float32.
        diagonal_I: d, of the Hessian.
        part: 1 restores the energy in full, 0 not at all.
    """
    kept_OI = weight_OI * stays_OI
    before_O = weight_OI.square() @ diagonal_I
    after_O = kept_OI.square() @ diagonal_I
    # A row that lost everything has nothing to scale.
    factor_O = torch.where(after_O > 0, before_O / after_O, 1.0).sqrt()
    return kept_OI.mul_((1 + part * (factor_O - 1))[:, None])
