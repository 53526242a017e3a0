"""Scaling the weights that stay towards what their row was.

Without it the error of a layer's output is lower and the model's perplexity higher, by a tenth and
more at 2:4 (``tests/benchmarks/sketched_obs.md``): error does not predict perplexity here.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
