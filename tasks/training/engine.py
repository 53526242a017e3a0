"""The training engine on Accelerate: one process of any number, mixed precision, checkpoints.

Data parallel without a wrapped model: the method adds up its micro-batches' gradients first, so one
sum over the processes an optimiser step is all that they exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, distributed

from tasks.pruning.core.retraining import Snapshot
from tasks.training.checkpoints import Checkpoints

_BUCKET = 16 << 20
"""Elements summed in one exchange: fewer would wait on latency, more only take memory."""


class AccelerateEngine:
    """Runs a training method's steps; see :class:`tasks.pruning.core.retraining.Engine`."""

    def __init__(self, accelerator: Any, checkpoints: Checkpoints | None) -> None:
        self._accelerator = accelerator
        self._checkpoints = checkpoints
        self.device: torch.device = accelerator.device
        self.rank: int = accelerator.process_index
        self.processes: int = accelerator.num_processes

    def autocast(self) -> AbstractContextManager[Any]:
        return self._accelerator.autocast()

    def backward(self, outputs: Tensor, gradient: Tensor) -> None:
        self._accelerator.backward(outputs, gradient=gradient)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        if self.processes == 1:
            return
        bucket: list[Tensor] = []
        for tensor in tensors:
            if bucket and (
                tensor.dtype != bucket[0].dtype
                or sum(held.numel() for held in bucket) + tensor.numel() > _BUCKET
            ):
                _sum_together_(bucket)
                bucket = []
            bucket.append(tensor)
        if bucket:
            _sum_together_(bucket)

    def restore(self) -> Snapshot | None:
        found = self._checkpoints.latest() if self._checkpoints else None
        # No process may write, or clean up, while another still reads.
        self._accelerator.wait_for_everyone()
        return found

    def snapshot(self, step: int, take: Callable[[], Snapshot]) -> None:
        if self._checkpoints and self.rank == 0 and self._checkpoints.due():
            self._checkpoints.write(step, take())


def _sum_together_(tensors: Sequence[Tensor]) -> None:
    """One exchange for all; a single contiguous tensor is summed where it lies."""
    if len(tensors) == 1 and tensors[0].is_contiguous():
        distributed.all_reduce(tensors[0])
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    distributed.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))


@contextmanager
def accelerator_for(device: torch.device, dtype: torch.dtype) -> Iterator[Any]:
    """An Accelerator of this process, which leaves nothing of itself behind.

    Accelerate keeps its settings for the life of a process, and a sweep may train one model in
    bfloat16 and the next in float32.

    Args:
        device: only its type is looked at.
        dtype: the model's; in bfloat16 the student computes in it as well.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        yield Accelerator(
            cpu=device.type == "cpu",
            mixed_precision="bf16" if dtype == torch.bfloat16 else "no",
        )
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
