"""Wanda-SP: heads and channels by weight and activation (the structured form of arXiv 2306.11695).

The metric of a column i of the attention's output projection or of the MLP's last matrix is the
mean over output rows of |W_oi|·√e_i, with e_i the mean over windows of Σ_t X_ti². A group's value
is the sum over its features' columns averaged over its query heads; a channel's is its column's.
Block after block: what one block loses is gone from what the next block sees.

Deviation: a block keeps at least one group and one channel. Every block keeps whole groups, the
rounded share of its own: of three, a target of 0.2 removes one and a target of 0.1 none. The
sparsity reached is recorded beside the target. Blocks that ``exclude`` reaches keep all.

Shapes: ``L`` blocks, ``G`` key/value groups, ``C`` channels, ``I`` in-features.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tasks.pruning.core.blocks import BlockAtWork, Decoder, walk
from tasks.pruning.core.methods import Chosen, LearningInputs, StructuredMethod
from tasks.pruning.core.registry import register
from tasks.pruning.core.statistics import ColumnCollector
from tasks.pruning.core.structure import (
    BlockStructure,
    Kept,
    masked_block,
    removable,
    structure_of,
)
from tasks.pruning.core.targets import Fraction
from tasks.pruning.policy_gradient.bernoulli import keep_highest


@dataclass(frozen=True)
class Metrics:
    """Wanda-SP's values, float32 on the CPU.

    Attributes:
        groups_LG: of each block's key/value groups.
        channels_LC: of each block's channels.
        kept: what each block kept for what the later blocks saw.
    """

    groups_LG: Tensor
    channels_LC: Tensor
    kept: tuple[Kept, ...]


def _column_metric(block: BlockAtWork, name: str, collector: ColumnCollector) -> Tensor:
    statistics = collector.result()
    energy_I = statistics.energy_I / statistics.windows
    weight_OI = block.layers[name].weight_OI.float()
    return weight_OI.abs().mean(dim=0) * energy_I.sqrt()


def _group_metric(metric_I: Tensor, structure: BlockStructure) -> Tensor:
    by_head = metric_I.view(structure.groups, structure.queries, structure.head_dim)
    return by_head.sum(dim=2).mean(dim=1)


def keep_share(values: Tensor, keep: float) -> Tensor:
    """The ``round(keep · n)`` highest of a vector, at least one."""
    count = max(1, round(keep * values.numel()))
    return keep_highest(
        values[None], torch.ones_like(values[None]), count, across_layers=True
    ).squeeze(0)


def walk_metrics(
    decoder: Decoder, tokens_NL: Tensor, keep: float, inputs: LearningInputs
) -> Metrics:
    """The metric of every group and channel, each block seeing its predecessors pruned.

    Args:
        keep: the share that each block keeps for what the later blocks see.
    """
    structure = structure_of(decoder)
    may = removable(decoder)
    groups: list[Tensor] = []
    channels: list[Tensor] = []
    chosen: list[Kept] = []

    def visit(block: BlockAtWork) -> dict[str, Tensor]:
        attention, mlp = structure.attention_out, structure.channel_out
        collected = block.collect(ColumnCollector, {attention, mlp})
        groups_G = _group_metric(_column_metric(block, attention, collected[attention]), structure)
        channels_C = _column_metric(block, mlp, collected[mlp])
        if not (torch.isfinite(groups_G).all() and torch.isfinite(channels_C).all()):
            raise ValueError(
                f"{block.name}: a metric is not finite: weights or inputs are NaN or too large"
            )
        groups_G, channels_C = groups_G.cpu(), channels_C.cpu()
        kept = Kept(
            keep_share(groups_G, keep if may.groups_L[len(groups)] else 1.0),
            keep_share(channels_C, keep if may.channels_L[len(channels)] else 1.0),
        )
        groups.append(groups_G)
        channels.append(channels_C)
        chosen.append(kept)
        return masked_block(block.block, structure, kept)

    walk(decoder, tokens_NL, visit, device=inputs.device, progress=inputs.progress)
    return Metrics(torch.stack(groups), torch.stack(channels), tuple(chosen))


@register
@dataclass(frozen=True, kw_only=True)
class WandaSP(StructuredMethod):
    """Removes the same share of heads and of channels from every block."""

    name: ClassVar[str] = "wanda_sp"
    summary: ClassVar[str] = (
        "Heads and channels with the smallest |weight| x input norm, every block alike."
    )
    source: ClassVar[str] = "Wanda-SP, the structured form of arXiv 2306.11695 (An et al. 2023)"
    version: ClassVar[int] = 2
    uses_calibration: ClassVar[bool] = True

    def choose(
        self,
        decoder: Decoder,
        target: Fraction,
        generator: torch.Generator,
        inputs: LearningInputs,
    ) -> Chosen:
        del generator
        assert inputs.tokens_NL is not None
        keep = 1.0 - target.value
        start = time.perf_counter()
        metrics = walk_metrics(decoder, inputs.tokens_NL, keep, inputs)
        walked = time.perf_counter() - start
        return Chosen(figures={"calibration_seconds": walked}, kept=metrics.kept)
