"""Tells whoever listens how far the work is: the terminal's live view, the Prefect artifact.

Steps report to the listeners of this process; without any, nothing happens.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Status = Literal["started", "advanced", "computed", "reused", "failed"]


@dataclass(frozen=True)
class Event:
    """One change of one piece of work.

    Attributes:
        group: what the work belongs to: a model or a cell.
        name: the piece of work, such as ``prune``.
        done, total: of its parts, where it has any.
        seconds: since it started.
        message: why it failed, or what came of it.
    """

    group: str
    name: str
    status: Status
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    message: str = ""


Listener = Callable[[Event], None]
_listeners: list[Listener] = []


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send events to ``listener`` while inside."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def _emit(event: Event) -> None:
    for listener in list(_listeners):
        listener(event)


class Work:
    """One piece of work; call it with (done, total) as it advances."""

    def __init__(self, group: str, name: str) -> None:
        self.group, self.name = group, name
        self.reused = False
        self.failure = ""
        """Set it where a failure is kept and not raised."""
        self.note = ""
        """What came of it, in a few words."""
        self._start = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        _emit(Event(self.group, self.name, "advanced", done, total, self.seconds))

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start


@contextlib.contextmanager
def work(group: str, name: str) -> Iterator[Work]:
    """Report a piece of work from its start to its end, whichever end that is."""
    piece = Work(group, name)
    _emit(Event(group, name, "started"))
    try:
        yield piece
    except BaseException as error:
        _emit(Event(group, name, "failed", seconds=piece.seconds, message=f"{error}"[:300]))
        raise
    status: Status = "failed" if piece.failure else "reused" if piece.reused else "computed"
    _emit(Event(group, name, status, seconds=piece.seconds, message=piece.failure or piece.note))
