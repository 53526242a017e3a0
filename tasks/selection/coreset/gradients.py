"""Features of windows: their gradients after a short warm-up, preconditioned, projected, averaged.

As in TAGCOS and LESS (arXiv 2402.04333): a warm-up of low-rank branches on windows drawn from the
pool, with a linearly rising learning rate; at each checkpoint every window's own gradient in
Adam's form with that checkpoint's moments, which stay as they are, and no bias correction,

    ĝ = (β₁m + (1−β₁)g) / √(β₂v + (1−β₂)g² + ε);

projected by the same signs for all windows and checkpoints; each row normalised per checkpoint;
and averaged with the mean learning rate of the steps since the checkpoint before as weights. The
average is not normalised again: a long row means that the checkpoints agree.

Deviations: no dropout in the warm-up; ours is a fixed number of steps, the authors' was stopped by
hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from tasks.selection.coreset.lora import Branches, Loss
from tasks.selection.registry import Form

BETAS, EPSILON = (0.9, 0.999), 1e-8
BLOCK = 16_384
"""Parameters whose signs are held at once."""
_HELD = 256 * 2**20
"""Bytes of full gradients that wait for their projection."""


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """How the branches learn, and when they are looked at.

    Attributes:
        steps, checkpoints: a checkpoint after every ``steps / checkpoints`` steps, rounded.
        batch: windows of a step.
        learning_rate: at the last step; at step t of S it is t/S of it.
    """

    steps: int
    checkpoints: int
    batch: int
    learning_rate: float

    def ends(self) -> list[int]:
        """Steps after which a checkpoint is taken."""
        return [round(self.steps * (i + 1) / self.checkpoints) for i in range(self.checkpoints)]

    def rates(self) -> list[float]:
        """Mean learning rate of the steps of each checkpoint, since the one before."""
        bounds = [0, *self.ends()]
        return [
            self.learning_rate * (first + 1 + last) / 2 / self.steps
            for first, last in pairwise(bounds)
        ]


@dataclass(frozen=True)
class Features:
    """
    Attributes:
        x_ND: float32; what is selected by.
        raw_ND: float32; plain gradients of the last checkpoint, projected: what was not looked at.
        rates: learning rates that the checkpoints were weighted with.
    """

    x_ND: Tensor
    raw_ND: Tensor
    rates: list[float]


def features(
    branches: Branches,
    loss: Loss,
    windows_NT: Tensor,
    *,
    warmup: Warmup,
    dimensions: int,
    form: Form,
    generator: torch.Generator,
    seed: int,
    batch: int,
    into: tuple[Tensor, Tensor] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Features:
    """Warm the branches up on the windows and describe each window by its gradients.

    Args:
        loss: of the model that the branches stand beside.
        windows_NT: whatever ``loss`` takes some rows of: tokens, or numbers of windows.
        form: Adam's form of a gradient, or the gradient itself.
        generator: draws the windows of the warm-up.
        seed: of the projection's signs.
        batch: windows of one backward pass; it changes speed and memory alone.
        into: zeros that become ``x_ND`` and ``raw_ND``, such as those of a mapped file: apart from
            them, memory does not grow with the pool.
        progress: called with (passes over windows done, in all).

    Raises:
        ValueError: more checkpoints than steps.
        FloatingPointError: a gradient is not finite.
    """
    if not 1 <= warmup.checkpoints <= warmup.steps:
        raise ValueError(f"{warmup.checkpoints} checkpoints in {warmup.steps} steps")
    rates = warmup.rates()
    total = warmup.steps * warmup.batch + warmup.checkpoints * len(windows_NT)
    done = 0

    def told(windows: int) -> None:
        nonlocal done
        done += windows
        progress(done, total)

    x_ND, raw_ND = into or (torch.zeros((len(windows_NT), dimensions)) for _ in range(2))
    learned = _warmed(branches, loss, windows_NT, warmup, generator, told)
    for rate, (moments, last) in zip(rates, learned, strict=True):
        for rows, flat_NP in _gradients(branches, loss, windows_NT, batch, told):
            if last:
                raw_ND[rows] = project(flat_NP, dimensions, seed).cpu()
            shaped_NP = _preconditioned_(flat_NP, *moments) if form == "adam" else flat_NP
            short_ND = project(shaped_NP, dimensions, seed).cpu()
            unit_ND = torch.nn.functional.normalize(short_ND, dim=1)
            x_ND[rows] += rate / sum(rates) * unit_ND
    return Features(x_ND, raw_ND, rates)


def _warmed(
    branches: Branches,
    loss: Loss,
    windows_NT: Tensor,
    warmup: Warmup,
    generator: torch.Generator,
    told: Callable[[int], None],
) -> Iterator[tuple[tuple[Tensor, Tensor], bool]]:
    """Learns, and stops at each checkpoint: Adam's moments, ``P`` each, and if it is the last."""
    parameters = branches.parameters()
    optimiser = torch.optim.Adam(parameters, betas=BETAS, eps=EPSILON)
    ends = warmup.ends()
    for step in range(1, warmup.steps + 1):
        drawn = torch.randint(len(windows_NT), (warmup.batch,), generator=generator)
        for group in optimiser.param_groups:
            group["lr"] = warmup.learning_rate * step / warmup.steps
        with torch.enable_grad(), branches.attached():
            for tensor in parameters:
                tensor.requires_grad_()
            mean = loss(windows_NT[drawn]).mean()
            # A branch beside a layer that takes no part has none: it does not learn.
            gradients = torch.autograd.grad(mean, parameters, materialize_grads=True)
        for tensor, gradient in zip(parameters, gradients, strict=True):
            tensor.requires_grad_(False)
            tensor.grad = gradient
        optimiser.step()
        told(warmup.batch)
        if step in ends:
            states = [optimiser.state[tensor] for tensor in parameters]
            first, second = (
                torch.cat([state[name].flatten() for state in states])
                for name in ("exp_avg", "exp_avg_sq")
            )
            yield (first, second), step == ends[-1]


def _gradients(
    branches: Branches,
    loss: Loss,
    windows_NT: Tensor,
    batch: int,
    told: Callable[[int], None],
) -> Iterator[tuple[slice, Tensor]]:
    """Full gradients of as many windows as may be held, with the rows that they are."""
    held = max(batch, _HELD // (4 * branches.size()) // batch * batch)
    for start in range(0, len(windows_NT), held):
        parts: list[Tensor] = []
        for part_NT in windows_NT[start : start + held].split(batch):
            parts.append(branches.example_gradients(loss, part_NT))
            told(len(part_NT))
        flat_NP = torch.cat(parts)
        yield slice(start, start + len(flat_NP)), flat_NP


def _preconditioned_(flat_NP: Tensor, first_P: Tensor, second_P: Tensor) -> Tensor:
    """Adam's form of each gradient, in place of it."""
    beta1, beta2 = BETAS
    scale_NP = (flat_NP.square().mul_(1 - beta2) + beta2 * second_P).add_(EPSILON).sqrt_()
    return flat_NP.mul_(1 - beta1).add_(beta1 * first_P).div_(scale_NP)


def project(rows_NP: Tensor, dimensions: int, seed: int) -> Tensor:
    """Rows in fewer dimensions, ``N × D``, float32, on the rows' device.

    Rademacher projection (Johnson–Lindenstrauss): entries ±1/√D, so that inner products are kept in
    expectation and cosines within a few times 1/√D. The matrix is never held whole: 0.5 M
    parameters to 1 024 dimensions are 1.9 GB. Each block of signs comes from a generator of its
    own, named by the seed and the block's number, so that it does not matter how many rows are
    projected at once.
    """
    found_ND = torch.zeros((len(rows_NP), dimensions), device=rows_NP.device)
    for number, start in enumerate(range(0, rows_NP.shape[1], BLOCK)):
        part_NB = rows_NP[:, start : start + BLOCK].to(torch.float32)
        found_ND += part_NB @ _signs(part_NB.shape[1], dimensions, seed, number).to(part_NB.device)
    return found_ND / math.sqrt(dimensions)


def _signs(parameters: int, dimensions: int, seed: int, block: int) -> Tensor:
    """±1, ``B × D``; drawn on the CPU, so that a seed means the same everywhere."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + block) % 2**63)
    words = torch.empty((parameters, math.ceil(dimensions / 8)), dtype=torch.uint8)
    words.random_(0, 256, generator=generator)
    bits = (words.unsqueeze(-1) >> torch.arange(8, dtype=torch.uint8)) & 1
    return bits.flatten(1)[:, :dimensions].to(torch.float32).mul_(2).sub_(1)
