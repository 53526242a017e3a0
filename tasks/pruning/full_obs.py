"""Full OBS: one mask for a whole layer under its whole Hessian, then conjugate gradients.

This project's own method. It sees what SparseGPT sees (``sparsegpt.py``: H = 2XᵀX/N + λI of inputs
that passed through pruned predecessors) and departs from it in everything else:

- All of a layer's weights are compared at once, each by what removing it costs where only the share
  of the others that the target keeps can make up for it. SparseGPT goes column by column, and only
  later columns make up.
- Of each row, or each group, exactly as many weights go as the target says.
- The weights that stay are scaled towards their row's energy (``core/energy.py``), and then changed
  by a few steps of conjugate gradients towards the least error of the layer's output. They are
  stopped early: a layer's inputs are few and the model is not its layers.

Related: ADMM for the weights that stay (Boža 2024, arXiv 2401.02938), which solves the same problem
without the scaling. Figures: ``tests/benchmarks/sketched_obs.md``.

Shapes: ``O`` are the out-features of all layers that share an input, ``I`` its in-features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.pruning.core import masks
from tasks.pruning.core.energy import CompensatingMethod, rescaled
from tasks.pruning.core.hessian import Hessian, InverseFactor, inverse_factor
from tasks.pruning.core.methods import Collector, JointMethod, option
from tasks.pruning.core.registry import register
from tasks.pruning.core.solve import conjugate_gradients_
from tasks.pruning.core.targets import Target


@register
@dataclass(frozen=True, kw_only=True)
class FullOBS(CompensatingMethod, JointMethod):
    """Prunes the smallest OBS losses under the whole Hessian; kept weights compensate."""

    name: ClassVar[str] = "full_obs"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "OBS under the whole Hessian, a layer at once; compensates."
    source: ClassVar[str] = "this project, from Optimal Brain Surgeon (Hassibi & Stork 1992)"

    damping: float = option(
        0.01, "Added to the Hessian's diagonal, as part of its mean.", gt=0, le=1e6
    )

    @property
    def departs(self) -> str:
        return "selection and update are this project's own"

    def collector(self, in_features: int, device: torch.device) -> Collector:
        return Hessian(in_features, device, self.damping)

    def prune_layers(
        self,
        weights: Mapping[str, Tensor],
        collected: Collector,
        target: Target,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        del generator
        assert isinstance(collected, Hessian)
        weight_OI = torch.cat([part_OI.float() for part_OI in weights.values()])
        if not torch.isfinite(weight_OI).all():  # comparing such losses says nothing
            raise ValueError("weights are not finite")
        # The factor may use the matrix up: of a wide layer it is gigabytes.
        factor = collected.told(
            inverse_factor(shared_(collected.hessian(), 1 - target.sparsity), self.damping)
        )
        damping, cost_I = factor.damping, costs(factor)
        del factor
        rows = [len(part_OI) for part_OI in weights.values()]
        # Each layer meets the target: no layer's zeros count for its neighbours.
        gone_OI = torch.cat(
            [
                masks.lowest(part_OI.square() * cost_I, target, zero_OI=part_OI == 0)
                for part_OI in weight_OI.split(rows)
            ]
        )
        hessian_II = collected.hessian()
        diagonal_I = hessian_II.diagonal()
        # Inputs that are all zero tell nothing: each weight counts by its size.
        diagonal_I.add_(damping * float(diagonal_I.mean()) or 1.0)
        stays_OI = gone_OI.logical_not().float()
        kept_OI = rescaled(weight_OI, stays_OI, diagonal_I, self.restored(target))
        kept_OI = compensated_(kept_OI, weight_OI, stays_OI, hessian_II, self.steps)
        return {
            name: part_OI.to(weights[name].dtype)
            for name, part_OI in zip(weights, kept_OI.split(rows), strict=True)
        }


def shared_(hessian_II: Tensor, kept_share: float) -> Tensor:
    """H, in place, where what one input says of another counts by ``kept_share``.

    OBS removes one weight and lets all others make up for it. When many weights go at once only
    those that stay can: 1 is OBS itself, and with 0 each input has its own energy alone.
    """
    diagonal_I = hessian_II.diagonal().clone()
    hessian_II.mul_(kept_share).diagonal().copy_(diagonal_I)
    return hessian_II


def costs(factor: InverseFactor) -> Tensor:
    """What removing a weight costs, per squared weight: 1/[H⁻¹]_ii, ``I``, positive.

    Args:
        factor: of H; used up.
    """
    # UᵀU = H⁻¹, with rows in units of their diagonal.
    factor.rows_II.mul_(factor.pivot_I.rsqrt()[:, None])
    return torch.linalg.vector_norm(factor.rows_II, dim=0).square().reciprocal()


def compensated_(
    kept_OI: Tensor, weight_OI: Tensor, stays_OI: Tensor, hessian_II: Tensor, steps: int
) -> Tensor:
    """Change ``kept_OI`` in place towards the least (w' − w)ᵀH(w' − w) of each row.

    All rows' systems are solved side by side by conjugate gradients with the diagonal of H as
    preconditioner: a product with H a step.

    Args:
        kept_OI: w', zero where a weight is pruned; where they begin.
        weight_OI: w, the weights before pruning, float32.
        stays_OI: 1 or 0, float32.
        steps: at most; a row that is solved stays as it is.
    """
    inverse_OI = stays_OI / hessian_II.diagonal()
    return conjugate_gradients_(
        kept_OI,
        (weight_OI - kept_OI) @ hessian_II,
        product=lambda direction_OI: direction_OI @ hessian_II,
        precondition=lambda residual_OI: residual_OI * inverse_OI,
        steps=steps,
    )
