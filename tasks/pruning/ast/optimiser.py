"""AST's optimiser: AdamW that also decays what its mask prunes (arXiv 2407.20584).

For a masked weight W with mask M (True: kept) and gradient g, clipped, at step t (from 1):

    m ← β₁m + (1−β₁)g
    u = m + λ(t)(¬M⊙W)                       the decay: outside the momentum, inside Adam's scaling
    v ← β₂v + (1−β₂)u²
    W ← (1 − η·ω)W − (η/(1−β₁ᵗ))·u/(√(v/(1−β₂ᵗ)) + ε)

This is the published form. Its u/√v has size one already, so that the factor 1/(1−β₁ᵗ) lengthens
the first steps, up to ten times; the authors' 2 000 steps of warm-up hide it, a short run does not.
``corrected`` uses the momentum that Adam corrects, u = m/(1−β₁ᵗ) + λ(t)(¬M⊙W), and the factor goes.

The model computes with W⊙M, written where its forward pass reads it, once a step. The gradient
that arrives there *is* the straight-through estimator's gradient of the dense W. Every other
parameter takes plain AdamW, v ← β₂v + (1−β₂)g². ω is 0 for vectors.

All is done in place in parts of a few hundred kilobytes, so that one step reads and writes each
vector once and needs two small buffers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

BETA_1 = 0.9
BETA_2 = 0.95
EPSILON = 1e-8


@dataclass(frozen=True)
class StepSize:
    """What varies from step to step.

    Attributes:
        step: from 1, for the bias corrections.
        learning_rate: η.
        decay: λ of the pruned weights.
        gradient_scale: what gradients are multiplied with first, for clipping.
        corrected: whether u and v of a masked weight see the corrected momentum.
    """

    step: int
    learning_rate: float
    decay: float = 0.0
    gradient_scale: float = 1.0
    corrected: bool = False


@dataclass
class Variable:
    """A trained tensor with its moments.

    Attributes:
        name: of the parameter, or of a part of a branch.
        value: float32 (or float64 in tests), contiguous; changed in place.
        weight_decay: ω.
        kept: boolean, where the variable is masked; changed in place.
        computed: where value⊙kept is written for the forward pass; only with a mask.
    """

    name: str
    value: Tensor
    weight_decay: float
    kept: Tensor | None = None
    computed: Tensor | None = None
    momentum: Tensor = field(init=False)
    variance: Tensor = field(init=False)

    def __post_init__(self) -> None:
        assert self.value.is_contiguous() and (self.kept is None) == (self.computed is None)
        self.momentum = torch.zeros_like(self.value)
        self.variance = torch.zeros_like(self.value)

    def compute_(self) -> None:
        """Write value⊙kept where the forward pass reads it."""
        if self.kept is not None and self.computed is not None:
            torch.mul(self.value, self.kept, out=self.computed)

    def state(self) -> dict[str, Tensor]:
        """Everything that a step changes, by name: what a checkpoint holds."""
        tensors = {"value": self.value, "momentum": self.momentum, "variance": self.variance}
        if self.kept is not None:
            tensors["kept"] = self.kept
        return {f"{self.name}/{kind}": tensor for kind, tensor in tensors.items()}


@torch.no_grad()
def clip_scale(gradients: Sequence[Tensor], largest: float) -> tuple[float, float]:
    """The gradients' norm over all tensors, and the factor that bounds it by ``largest``."""
    norms = [torch.linalg.vector_norm(gradient).double() for gradient in gradients]
    norm = float(torch.stack(norms).square().sum().sqrt())
    return norm, min(1.0, largest / norm) if norm > 0 else 1.0


@torch.no_grad()
def update_(variable: Variable, gradient: Tensor, size: StepSize) -> None:
    """One step of a variable, and what the forward pass reads of it.

    Args:
        gradient: of the loss, before clipping; it is left as it is.
    """
    correction = math.sqrt(1 - BETA_2**size.step)
    started = 1 - BETA_1**size.step  # the part of the momentum that its start from zero left
    early = size.corrected and variable.kept is not None
    rate = size.learning_rate * correction / (1 if early else started)
    shrink = 1 - size.learning_rate * variable.weight_decay
    kind = {"dtype": variable.value.dtype, "device": variable.value.device}
    buffers = torch.empty(3, _part(variable.value), **kind)
    for value, momentum, variance, slope, kept, computed in _parts(variable, gradient):
        change, root, ones = buffers[:, : len(value)]
        momentum.mul_(BETA_1).add_(slope, alpha=(1 - BETA_1) * size.gradient_scale)
        if kept is None or computed is None:
            # Plain Adam's variance is of the gradient itself.
            torch.mul(slope, size.gradient_scale, out=root)
            variance.mul_(BETA_2).addcmul_(root, root, value=1 - BETA_2)
            change = momentum
        else:
            # As numbers: products with booleans are several times slower.
            ones.copy_(kept)
            torch.mul(value, ones, out=change)
            # W − W⊙M is exactly zero where M is one.
            torch.sub(value, change, out=change)
            change.mul_(size.decay).add_(momentum, alpha=1 / started if early else 1)
            variance.mul_(BETA_2).addcmul_(change, change, value=1 - BETA_2)
        # Numerator and denominator of the formula times √(1−β₂ᵗ), which saves a pass.
        torch.sqrt(variance, out=root).add_(EPSILON * correction)
        if shrink != 1:
            value.mul_(shrink)
        value.addcdiv_(change, root, value=-rate)
        if computed is not None:
            torch.mul(value, ones, out=computed)


def _part(tensor: Tensor) -> int:
    """Elements of a part: on a CPU so few that all vectors' parts stay in its cache."""
    return min(tensor.numel(), 1 << 16 if tensor.device.type == "cpu" else 1 << 26)


def _parts(
    variable: Variable, gradient: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None]]:
    length = _part(variable.value)
    gradient = gradient.reshape(-1)
    masked = variable.kept is not None and variable.computed is not None
    for start in range(0, variable.value.numel(), length):
        part = slice(start, start + length)
        yield (
            variable.value.view(-1)[part],
            variable.momentum.view(-1)[part],
            variable.variance.view(-1)[part],
            gradient[part],
            variable.kept.view(-1)[part] if masked and variable.kept is not None else None,
            variable.computed.view(-1)[part] if masked and variable.computed is not None else None,
        )
