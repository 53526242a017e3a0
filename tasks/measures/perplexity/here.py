"""This process's part of an evaluation: all windows, or a rank's share of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from configs.trust import Trust
from tasks.measures.perplexity.reference import Reference, ReferenceWriter, open_reference
from tasks.models.architecture.head import input_device
from tasks.models.next_tokens import WindowFigures, halves_of, measure_windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class Job:
    """How windows are measured, in one process or in several.

    Attributes:
        reference: the dense model's states to compare with.
        write_reference: where the model's own states go.
        dtype: of the weights; None: as saved.
        on_cpu: else each rank takes the GPU of its number.
    """

    batch_size: int
    reference: Reference | None
    write_reference: Path | None
    trust: Trust
    dtype: torch.dtype | None
    on_cpu: bool


@dataclass(frozen=True)
class Measured:
    """
    Attributes:
        figures: of all windows, or of a share.
        dtype: the model's.
        peaks: memory in bytes, of each process.
    """

    figures: WindowFigures
    dtype: torch.dtype
    peaks: tuple[int, ...] = ()


def measure_here(
    model: PreTrainedModel,
    job: Job,
    windows_NL: Tensor,
    share: range,
    progress: Callable[[int, int], None] | None,
) -> Measured:
    """Measure the windows of ``share``.

    Args:
        windows_NL: all of them.
        share: their numbers, one after another.

    Raises:
        ValueError: for no windows, or a reference of others.
    """
    halves = halves_of(model)
    reference, kept_in, device = job.reference, job.write_reference, input_device(model)
    dense = open_reference(reference, windows_NL, device, job.trust) if reference else None
    keep = ReferenceWriter(kept_in, halves, len(windows_NL)) if kept_in else None
    with closing(keep) if keep else nullcontext():
        figures = measure_windows(
            model,
            windows_NL[share.start : share.stop],
            batch_size=job.batch_size,
            first=share.start,
            halves=halves,
            dense=dense,
            keep=keep,
            progress=progress,
        )
    return Measured(figures, dtype=model.dtype)
