"""One block at a time on the device, the next one's weights on their way there.

A block's own tensors never move: while it is at work its parameters and buffers stand for copies,
so that nothing is copied back. To a GPU the next block's copies are made meanwhile, by a thread
through pinned memory and on a stream of its own; two blocks are then on the device at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Copies = tuple[list[Tensor], torch.cuda.Event | None]
"""Copies of a block's tensors in their order, and when they are complete."""


class Onload:
    """Hands out blocks on ``device``; those that are there already are left alone.

    Use as a context, and :meth:`block` for each block, in order.
    """

    def __init__(self, blocks: Sequence[nn.Module], device: torch.device) -> None:
        self._blocks = blocks
        self._device = torch.empty(0, device=device).device  # with its index
        self._pool: ThreadPoolExecutor | None = None
        self._stream: torch.cuda.Stream | None = None
        self._coming: dict[int, Future[Copies]] = {}

    def __enter__(self) -> Onload:
        if self._device.type == "cuda" and any(map(self._is_away, range(len(self._blocks)))):
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="onload")
            self._stream = torch.cuda.Stream(self._device)
            self._send(0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._coming.clear()

    @contextmanager
    def block(self, index: int) -> Iterator[nn.Module]:
        """The block on the device; its own tensors are back in it afterwards."""
        block = self._blocks[index]
        if not self._is_away(index):
            self._send(index + 1)
            yield block
            return
        copies, complete = self._coming.pop(index).result() if self._pool else self._copied(index)
        if complete is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(complete)
            for copy in copies:
                copy.record_stream(stream)
        self._send(index + 1)
        own = _tensors(block)
        originals = [tensor.data for tensor in own]
        for tensor, copy in zip(own, copies, strict=True):
            tensor.data = copy
        try:
            yield block
        finally:
            for tensor, original in zip(own, originals, strict=True):
                tensor.data = original

    def _is_away(self, index: int) -> bool:
        return any(tensor.device != self._device for tensor in _tensors(self._blocks[index]))

    def _send(self, index: int) -> None:
        if self._pool is not None and index < len(self._blocks) and self._is_away(index):
            self._coming[index] = self._pool.submit(self._sent, index)

    def _sent(self, index: int) -> Copies:
        """In the thread: copies through pinned memory."""
        assert self._stream is not None
        with torch.no_grad(), torch.cuda.stream(self._stream):
            copies = [
                tensor.data.pin_memory().to(self._device, non_blocking=True)
                if tensor.device.type == "cpu"
                else tensor.data.to(self._device)
                for tensor in _tensors(self._blocks[index])
            ]
            complete = torch.cuda.Event()
            complete.record(self._stream)
            return copies, complete

    def _copied(self, index: int) -> Copies:
        tensors = _tensors(self._blocks[index])
        return [tensor.data.to(self._device, copy=True) for tensor in tensors], None


def _tensors(block: nn.Module) -> list[Tensor]:
    return [*block.parameters(), *block.buffers()]
