"""Retrains a model with a training method, in this process or in several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from tasks.models.architecture.head import split_head
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import Progress, PruneResult
from tasks.pruning.core.retraining import RetrainingMethod, counting
from tasks.pruning.core.targets import Target
from tasks.training.checkpoints import Checkpoints
from tasks.training.engine import AccelerateEngine, accelerator_for

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHECKPOINTS = "checkpoints"


def retrain(
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
    checkpoint_seconds: float = 60.0,
    progress: Progress | None = None,
) -> PruneResult:
    """Retrain ``model`` to ``target``; the model itself is not changed.

    A run that was killed goes on from its last checkpoint in ``scratch`` and ends with the weights
    that it would have had; in float32 on a CPU and in one process, to the bit.

    Args:
        decoder: of ``model``.
        counted_NL: which tokens are learned from; None: all.
        processes: data parallel, over the same global batch; 1 runs in this process.
        scratch: a folder of this run alone, which the caller may remove afterwards.
        checkpoint_seconds: of work between two checkpoints, at least; 0: one after every step.
        progress: called with (steps done, steps in all).

    Raises:
        CallError: a worker process failed; the message holds what it said.
    """
    if processes > 1:
        from tasks.training.launcher import retrain_in_processes

        return retrain_in_processes(
            model,
            decoder,
            method,
            target,
            training_NL,
            counted_NL=counted_NL,
            seed=seed,
            processes=processes,
            scratch=scratch,
            checkpoint_seconds=checkpoint_seconds,
            progress=progress,
        )
    return retrain_here(
        model,
        decoder,
        method,
        target,
        training_NL,
        counted_NL=counted_NL,
        seed=seed,
        scratch=scratch,
        checkpoint_seconds=checkpoint_seconds,
        progress=progress,
    )


def retrain_here(
    model: PreTrainedModel,
    decoder: Decoder,
    method: RetrainingMethod,
    target: Target,
    training_NL: Tensor,
    *,
    counted_NL: Tensor | None = None,
    seed: int,
    scratch: Path,
    progress: Progress | None = None,
    checkpoint_seconds: float = 60.0,
) -> PruneResult:
    """This process's part of :func:`retrain`: all of it, or one rank of several."""
    device = next(model.parameters()).device
    checkpoints = Checkpoints(scratch / CHECKPOINTS, checkpoint_seconds)
    with accelerator_for(device, model.dtype) as accelerator:
        return method.retrain(
            decoder,
            target,
            training_NL,
            seed=seed,
            engine=AccelerateEngine(accelerator, checkpoints),
            split=split_head,
            progress=progress,
            **counting(method, counted_NL),
        )
