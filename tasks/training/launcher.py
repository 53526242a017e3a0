"""Runs a training method in several processes of this machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tasks.models.resident import in_main_memory
from tasks.processes.call import call
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import Progress, PruneResult
from tasks.pruning.core.retraining import RetrainingMethod
from tasks.pruning.core.targets import Target
from tasks.training.files import Job, read_result, write_start
from tasks.training.worker import train_rank

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_MEMORY, ALL_MEMORY = "process_peak_memory_bytes", "all_processes_peak_memory_bytes"
"""Figures of a training in several processes: the largest peak of one, and the sum of all."""


def retrain_in_processes(
    model: PreTrainedModel,
    decoder: Decoder,
    method: RetrainingMethod,
    target: Target,
    training_NL: Tensor,
    *,
    counted_NL: Tensor | None = None,
    seed: int,
    processes: int,
    scratch: Path,
    progress: Progress | None = None,
    checkpoint_seconds: float = 60.0,
) -> PruneResult:
    """Data parallel :func:`tasks.training.run.retrain`; the figures tell the ranks' memory as well.

    Raises:
        ValueError: for more processes than there are GPUs, where the model is on one.
        CallError: a worker failed.
    """
    device = next(model.parameters()).device
    if device.type != "cpu" and processes > torch.cuda.device_count():
        raise ValueError(
            f"processes: {processes} were asked for, and there are {torch.cuda.device_count()} GPUs"
        )
    scratch.mkdir(parents=True, exist_ok=True)
    job = Job(
        method=method.name,
        options=dataclasses.asdict(method),
        target=str(target),
        seed=seed,
        exclude=decoder.exclude,
        dtype=str(model.dtype).removeprefix("torch."),
        on_cpu=device.type == "cpu",
        remote_code=type(model).__module__.startswith("transformers_modules"),
        checkpoint_seconds=checkpoint_seconds,
    )
    write_start(scratch, model, training_NL, counted_NL)
    with in_main_memory(model):  # the first rank takes its GPU
        peaks = call(
            train_rank,
            dataclasses.asdict(job),
            work="training",
            processes=processes,
            scratch=scratch,
            progress=progress,
        )
    result = read_result(scratch)
    memory = {MOST_MEMORY: float(max(peaks)), ALL_MEMORY: float(sum(peaks))}
    return dataclasses.replace(result, figures={**result.figures, **memory})
