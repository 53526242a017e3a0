"""Passes of a model that begin at one of its blocks, where the ones before gave what they gave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn


class Passes:
    """Stands in for the blocks' forward passes.

    Attributes:
        since: the block that a pass begins at; 0: all are passed.
        part: which of the batches that are passed one after the other.
    """

    def __init__(self) -> None:
        self.since = 0
        self.part = 0
        self._recording = False
        self._kept: list[list[Any]] = []

    @contextmanager
    def recorded(self, parts: int) -> Iterator[None]:
        """Keep what every block gives in the passes made here, one of each part."""
        self.since, self._kept, self._recording = 0, [[] for _ in range(parts)], True
        try:
            yield
        finally:
            self._recording = False

    def clear(self) -> None:
        self._kept = []

    def forward(self, index: int, plain: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Of one block."""
        if index < self.since:
            # The last of them counts; the others give something of its kind.
            return self._kept[self.part][self.since - 1]
        found = plain(*args, **kwargs)
        if self._recording:
            self._kept[self.part].append(found)
        return found


@contextmanager
def passes_of(blocks: Sequence[nn.Module]) -> Iterator[Passes]:
    """Let the passes of a model begin where they are told to, while this lasts."""
    passes = Passes()
    own = [vars(block).get("forward") for block in blocks]  # such as a hook's of accelerate
    for index, block in enumerate(blocks):
        block.forward = partial(passes.forward, index, block.forward)
    try:
        yield passes
    finally:
        passes.clear()
        for block, forward in zip(blocks, own, strict=True):
            del block.forward
            if forward is not None:
                block.forward = forward
