"""SLoRB: a low-rank branch that stands in for the pruned weights (AST, arXiv 2407.20584).

    y = x(W⊙M)ᵀ + (x Xᵀ)Sᵀ,   X: I/k × I,   S: O × I/k

X sums k neighbouring inputs, X_ij = 1 iff input j lies in group i; S starts as the sum of the
*pruned* weights of each group, divided by k and not by their count: of the pruned part it is the
projection onto functions of the groups' sums, so masked weight and branch together equal the dense
layer for inputs that are constant within each group. Both are trained.

In training the branch is folded into the weight that the model computes with, W⊙M + SX, once an
optimiser step: the forward pass costs what the dense one costs, and with G = ∂loss/∂(W⊙M + SX) the
branch's own gradients are G Xᵀ and Sᵀ G. Deviation: where k does not divide the inputs, the last
group is smaller (its entries of S are divided by k all the same).

Shapes: ``O`` out-features, ``I`` in-features, ``R`` = ⌈I/k⌉ the branch's rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.pruning.ast.optimiser import Variable

SUM = "slorb_x"
SCALE = "slorb_s"


def initial_sum(in_features: int, group: int, device: torch.device) -> Tensor:
    """X: which inputs each group sums, ``R × I``, float32."""
    groups = -(-in_features // group)
    group_I = torch.arange(in_features, device=device) // group
    return (torch.arange(groups, device=device)[:, None] == group_I).float()


def initial_scale(weight_OI: Tensor, kept_OI: Tensor, group: int) -> Tensor:
    """S: the groups' sums of pruned weights over k, ``O × R``, float32."""
    pruned_OI = weight_OI.float().masked_fill(kept_OI, 0)
    sum_RI = initial_sum(weight_OI.shape[1], group, weight_OI.device)
    return pruned_OI @ sum_RI.T / group


def gradients(gradient_OI: Tensor, sum_RI: Tensor, scale_OR: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of X and S from that of the layer's whole weight."""
    return scale_OR.T @ gradient_OI, gradient_OI @ sum_RI.T


@dataclass(frozen=True)
class Branch:
    """The side branch of one layer: X (``R × I``) and S (``O × R``), as they are trained."""

    sum_RI: Variable
    scale_OR: Variable

    @classmethod
    def of(
        cls, name: str, weight_OI: Tensor, kept_OI: Tensor, *, group: int, weight_decay: float
    ) -> Branch:
        """The initial branch of the layer ``name``."""
        sum_RI = initial_sum(weight_OI.shape[1], group, weight_OI.device)
        scale_OR = initial_scale(weight_OI, kept_OI, group)
        return cls(
            Variable(f"{name}.{SUM}", sum_RI, weight_decay),
            Variable(f"{name}.{SCALE}", scale_OR, weight_decay),
        )

    def fold_(self, weight_OI: Tensor) -> None:
        """Add SX to the weight that the model computes with."""
        weight_OI.addmm_(self.scale_OR.value, self.sum_RI.value)

    def gradients(self, gradient_OI: Tensor) -> list[tuple[Variable, Tensor]]:
        """Both parts with their gradients."""
        slopes = gradients(gradient_OI, self.sum_RI.value, self.scale_OR.value)
        return list(zip((self.sum_RI, self.scale_OR), slopes, strict=True))
