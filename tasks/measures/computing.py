"""What measures of one model share: the loaded model, the number of processes, their scratch."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tasks.measures.base import Subject
from tasks.models.resident import dense_model, placed_model, pruned_model
from tasks.store.steps import Work

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def network(work: Work, subject: Subject) -> PreTrainedModel:
    """The model of the step's ``weights``, kept in memory for the subject's next measure."""
    context, folder = work.context, work.need("weights").path
    if subject.evaluation.device_map == "auto":
        return placed_model(context, folder, subject.dtype, subject.evaluation.max_memory)
    load = dense_model if subject.dense is None else pruned_model
    return load(context, folder, subject.dtype)


def processes_of(evaluation: Any, parts: int) -> int:
    """As the sweep says, else one a GPU, or one on a CPU, whose cores one process already uses.

    Args:
        parts: windows or documents that there are to share.
    """
    if evaluation.device_map == "auto":
        return 1
    return evaluation.processes or max(1, min(torch.cuda.device_count(), parts))


@contextmanager
def scratch_of(work: Work) -> Iterator[Path]:
    """A folder of this run alone, where processes tell each other; gone afterwards."""
    folder = work.context.store.root / "evaluation" / work.out.name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def as_json(value: float) -> float | str:
    """JSON has no infinity; ``float`` reads it back."""
    return value if math.isfinite(value) else "inf"
