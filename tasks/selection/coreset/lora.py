"""Low-rank branches beside linear layers, and their gradients for every window of a batch.

A branch adds ``s·B(Ax)`` to a layer's output (arXiv 2106.09685); ``B`` starts at zero, so that at
step 0 the model is unchanged and ∂A is zero: the branches need a warm-up. With ``g`` the gradient
at the branch's output, a window's own gradients are sums over its tokens,

    ∂B = s · Σ_t g_t (A x_t)ᵀ        ∂A = s · Σ_t (Bᵀ g_t) x_tᵀ,

so that one backward pass of Σ_n loss_n gives those of all windows of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor], Tensor]
"""Windows, ``N × T`` → the loss of each, ``N``."""
SCALE = 4.0
"""s = α/r, as in the paper (512/128)."""


@dataclass(frozen=True)
class Place:
    """A linear layer that gets a branch: any module that maps ``… × I`` to ``… × O``."""

    module: nn.Module
    inputs: int
    outputs: int


class Branches:
    """One branch a place.

    Attributes:
        down: name → ``A``, ``R × I``, float32.
        up: name → ``B``, ``O × R``, float32.
    """

    def __init__(
        self,
        places: Mapping[str, Place],
        rank: int,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        if not places:
            raise ValueError("no linear layer to put a branch beside")
        self.places = places
        self.down: dict[str, Tensor] = {}
        self.up: dict[str, Tensor] = {}
        for name, place in places.items():
            bound = 1 / math.sqrt(place.inputs)
            drawn_RI = torch.rand((rank, place.inputs), generator=generator) * 2 - 1
            self.down[name] = (drawn_RI * bound).to(device)
            self.up[name] = torch.zeros((place.outputs, rank), device=device)

    def parameters(self) -> list[Tensor]:
        """A, then B, of each place in turn: the order of every flat gradient."""
        return [tensor for name in self.places for tensor in (self.down[name], self.up[name])]

    def size(self) -> int:
        """How many parameters there are."""
        return sum(tensor.numel() for tensor in self.parameters())

    @contextmanager
    def attached(self, gradients: _Gradients | None = None) -> Iterator[None]:
        """While this is open, the model computes with the branches.

        Args:
            gradients: takes each window's own, instead of autograd's for the whole batch.
        """
        handles = [
            place.module.register_forward_hook(self._hook(name, gradients))
            for name, place in self.places.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str, gradients: _Gradients | None) -> Callable[..., Tensor]:
        def branch(_: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor:
            x_NTI = given[0].to(torch.float32)
            low_NTR = x_NTI @ self.down[name].T
            added_NTO = (SCALE * (low_NTR @ self.up[name].T)).to(output.dtype)
            if gradients is not None:
                if not added_NTO.requires_grad:
                    added_NTO.requires_grad_()
                added_NTO.register_hook(gradients.taker(name, x_NTI.detach(), low_NTR.detach()))
            return output + added_NTO

        return branch

    def example_gradients(self, loss: Loss, windows_NT: Tensor) -> Tensor:
        """Every window's own gradient of its own loss, ``N × P``, float32.

        Raises:
            ValueError: a layer with a branch does not see the windows one by one.
            FloatingPointError: a gradient is not finite.
        """
        collected = _Gradients(self, len(windows_NT))
        with torch.enable_grad(), self.attached(collected):
            loss(windows_NT).sum().backward()
        return collected.flat_NP()


class _Gradients:
    """Collects the gradients of one batch, place by place, as the backward pass reaches them."""

    def __init__(self, branches: Branches, windows: int) -> None:
        self.branches, self.windows = branches, windows
        self.found: dict[str, tuple[Tensor, Tensor]] = {}

    def taker(self, name: str, x_NTI: Tensor, low_NTR: Tensor) -> Callable[[Tensor], None]:
        if x_NTI.ndim != 3 or len(x_NTI) != self.windows:
            shape = "×".join(map(str, x_NTI.shape))
            raise ValueError(
                f"{name} sees {shape} where {self.windows} windows × tokens × features are meant: "
                "its gradients cannot be told apart by window"
            )

        def take(gradient_NTO: Tensor) -> None:
            g_NTO = gradient_NTO.to(torch.float32)
            up_NOR = torch.einsum("nto,ntr->nor", g_NTO, low_NTR)
            down_NRI = torch.einsum("ntr,nti->nri", g_NTO @ self.branches.up[name], x_NTI)
            former = self.found.get(name)
            if former is not None:  # a layer that is used more than once
                down_NRI, up_NOR = down_NRI + former[0], up_NOR + former[1]
            self.found[name] = (down_NRI, up_NOR)

        return take

    def flat_NP(self) -> Tensor:
        parts = [part.flatten(1) for name in self.branches.places for part in self._of(name)]
        flat_NP = SCALE * torch.cat(parts, dim=1)
        if not torch.isfinite(flat_NP).all():
            raise FloatingPointError("a window's gradient is not finite")
        return flat_NP

    def _of(self, name: str) -> tuple[Tensor, Tensor]:
        """A place's gradients; zero where it took no part in the loss."""
        down_RI, up_OR = self.branches.down[name], self.branches.up[name]
        zero = (down_RI.new_zeros((self.windows, *down_RI.shape)),
                up_OR.new_zeros((self.windows, *up_OR.shape)))  # fmt: skip
        return self.found.pop(name, zero)
