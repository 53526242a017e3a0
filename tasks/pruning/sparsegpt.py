"""SparseGPT: one-shot pruning with second-order updates (Frantar & Alistarh, arXiv 2301.00774).

Algorithm 1. With H = 2XXᵀ/N + λI and U the upper Cholesky factor of H⁻¹ (UᵀU = H⁻¹), columns are
visited left to right; a pruned weight costs w²/U_cc², and its removal moves the later weights of
its row by −w/U_cc · U_c,:. Masks are chosen for a block of columns at a time (fractions: the lowest
losses of all rows × columns of the block; keep:group: of each group when the sweep reaches it), and
a block's errors reach the columns behind it in one product.

The mathematics is the paper's; the arithmetic differs:

- the factor is made without inverting H (``hessian.py``), and stored with each row divided by its
  diagonal, so that an error is the pruned weight itself and a loss is w² times a pivot;
- inside a block the errors are passed on in strips, as blocks pass theirs on in the paper;
- layers that share their input share Hessian and factor, and are swept side by side; thresholds
  stay each layer's own.

Deviations from the authors' code: an input that is always zero has H_cc = λ, so its weights go
before others of their size, but only as the target asks. Where a block of columns has more zeros
already than the target asks of it, these stay zero, nothing else of it goes, and the layer's other
blocks lose less. In the authors' code a layer may end sparser than its target either way. N counts
tokens, not windows; a factor of H changes nothing.

Shapes: ``B`` columns of a block, ``S`` columns of a strip; ``O`` are the out-features
of all layers swept together. The sweep works on transposed weights, whose columns lie contiguously.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import ClassVar

import torch
from torch import Tensor

from tasks.pruning.core import masks
from tasks.pruning.core.hessian import Hessian, InverseFactor
from tasks.pruning.core.methods import Collector, JointMethod, option
from tasks.pruning.core.refusals import UnsupportedLayerError
from tasks.pruning.core.registry import register
from tasks.pruning.core.replay import Replayed
from tasks.pruning.core.targets import Fraction, SemiStructured, Target

STRIP = 32
"""Columns between which errors are passed on one by one."""


@register
@dataclass(frozen=True, kw_only=True)
class SparseGPT(JointMethod):
    """Prunes the smallest OBS losses and lets the later weights make up for them."""

    name: ClassVar[str] = "sparsegpt"
    summary: ClassVar[str] = "Smallest OBS losses go, column by column; later weights compensate."
    source: ClassVar[str] = "Frantar & Alistarh 2023, arXiv 2301.00774"
    version: ClassVar[int] = 3

    block_size: int = option(128, "Columns whose mask is chosen at once; fractions only.", ge=1)
    damping: float = option(
        0.01, "Added to the Hessian's diagonal, as part of its mean.", gt=0, le=1e6
    )
    tf32: bool = option(
        False, "On a GPU, round a float32 model's inputs to TF32 when the Hessian is summed up."
    )

    def collector(self, in_features: int, device: torch.device) -> Collector:
        return Hessian(in_features, device, self.damping, tf32=self.tf32)

    def prune_layers(
        self,
        weights: Mapping[str, Tensor],
        collected: Collector,
        target: Target,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        del generator
        assert isinstance(collected, Hessian)
        sizes = [len(weight_OI) for weight_OI in weights.values()]
        weight_IO = torch.cat([weight_OI.T.float() for weight_OI in weights.values()], dim=1)
        if not torch.isfinite(weight_IO).all():  # comparing such losses says nothing
            raise ValueError("weights are not finite")
        block = self.block_size
        if isinstance(target, SemiStructured):
            columns = len(weight_IO)
            if columns % target.group:
                raise UnsupportedLayerError(
                    f"{target} needs in-features divisible by {target.group}; "
                    f"this layer has {columns}"
                )
            # A group never straddles blocks.
            block = max(1, block // target.group) * target.group
        sweep_(weight_IO, collected.factor, target, block, sizes)
        return {
            name: part_IO.T.to(weights[name].dtype).contiguous()
            for name, part_IO in zip(weights, weight_IO.split(sizes, dim=1), strict=True)
        }


@dataclass(frozen=True)
class _Share:
    """What blocks of a layer's columns are to lose.

    Attributes:
        fraction: of each, the target's own unless blocks have more zeros already.
        zeros: of those blocks, by their number: where they have zeros.
    """

    fraction: float
    zeros: Mapping[int, Tensor]

    def lowest(self, block: int, losses_BO: Tensor) -> Tensor:
        """The mask of a block."""
        if block in self.zeros:
            return self.zeros[block]
        return masks.lowest_of_matrix(losses_BO, self.fraction)


def _share_of(weight_IO: Tensor, fraction: float, block: int) -> _Share:
    """
    Args:
        weight_IO: of one layer, before pruning.
    """
    zeros = [part_BO == 0 for part_BO in weight_IO.split(block)]
    there = torch.stack([zero_BO.sum() for zero_BO in zeros]).tolist()
    share, full = fraction, set[int]()
    while more := {
        number
        for number, zero_BO in enumerate(zeros)
        if number not in full and there[number] > masks.count_of(share, zero_BO.numel())
    }:
        full |= more
        left = masks.count_of(fraction, weight_IO.numel()) - sum(there[n] for n in full)
        others = sum(zero_BO.numel() for n, zero_BO in enumerate(zeros) if n not in full)
        share = max(0, left) / max(1, others)
    return _Share(share, {number: zeros[number] for number in full})


def sweep_(
    weight_IO: Tensor, factor: InverseFactor, target: Target, block: int, sizes: list[int]
) -> None:
    """Prune transposed weights in place, ``block`` columns (here: rows) at a time.

    Args:
        sizes: out-features of each of the layers that lie side by side.
    """
    group = target.group if isinstance(target, SemiStructured) else 1
    strip = max(1, STRIP // group) * group
    on_gpu = weight_IO.device.type == "cuda"
    shares: list[_Share] = []
    if isinstance(target, Fraction):
        shares = [_share_of(p, target.value, block) for p in weight_IO.split(sizes, 1)]
    for start in range(0, len(weight_IO), block):
        part_BO = weight_IO[start : start + block]
        stop = start + len(part_BO)
        rows_BB = factor.rows_II[start:stop, start:stop]
        pivot_B = factor.pivot_I[start:stop]
        if shares:
            losses_BO = (part_BO.square() * pivot_B[:, None]).split(sizes, 1)
            parts = zip(shares, losses_BO, strict=True)
            pruned_BO = torch.cat([s.lowest(start // block, p) for s, p in parts], dim=1)
        else:
            pruned_BO = torch.zeros_like(part_BO, dtype=torch.bool)
        errors_BO = torch.empty_like(part_BO)
        for at in range(0, len(part_BO), strip):
            here = slice(at, min(at + strip, len(part_BO)))
            arguments = (
                part_BO[here],
                rows_BB[here, here],
                pivot_B[here],
                pruned_BO[here],
                errors_BO[here],
            )
            if on_gpu:
                grouped = target if group > 1 else None
                _replayed(arguments[0].shape, grouped, weight_IO.device)(arguments, (0, 3, 4))
            else:
                _sweep_strip_(*arguments, target)
            part_BO[here.stop :].addmm_(rows_BB[here, here.stop :].T, errors_BO[here], alpha=-1)
        # Beyond float32 an update is NaN, and so would be the losses that choose the next masks.
        if not torch.isfinite(errors_BO).all():
            raise ValueError("the updates of other weights exceed float32: are weights near 1e38?")
        weight_IO[stop:].addmm_(factor.rows_II[start:stop, stop:].T, errors_BO, alpha=-1)
        part_BO.masked_fill_(pruned_BO, 0)


@lru_cache(maxsize=16)
def _replayed(shape: torch.Size, target: Target | None, device: torch.device) -> Replayed:
    """:func:`_sweep_strip_` of strips of a shape, ``S × O``, on a GPU.

    Args:
        target: None for fractions, whose masks are chosen before.
    """
    columns = shape[0]
    like = [
        torch.zeros(size, dtype=dtype, device=device)
        for size, dtype in (
            (shape, torch.float32),
            ((columns, columns), torch.float32),
            ((columns,), torch.float32),
            (shape, torch.bool),
            (shape, torch.float32),
        )
    ]
    return Replayed(partial(_sweep_strip_, target=target), like)


def _sweep_strip_(
    part_SO: Tensor,
    rows_SS: Tensor,
    pivot_S: Tensor,
    pruned_SO: Tensor,
    errors_SO: Tensor,
    target: Target | None,
) -> None:
    """Column by column; writes the weights, the errors and, for keep:group, the mask."""
    for column in range(len(part_SO)):
        if isinstance(target, SemiStructured) and column % target.group == 0:
            group = slice(column, column + target.group)
            losses_OG = (part_SO[group].square() * pivot_S[group, None]).T
            pruned_SO[group] = masks.lowest_in_groups(losses_OG, target.keep).T
        torch.mul(part_SO[column], pruned_SO[column], out=errors_SO[column])
        part_SO[column + 1 :].addr_(rows_SS[column, column + 1 :], errors_SO[column], alpha=-1)
