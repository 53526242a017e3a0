"""How far the work is, told to whoever listens: the terminal's live view, Prefect's artifacts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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


@dataclass
class Progress:
    """The listeners of one process; without any, nothing happens."""

    listeners: list[Listener] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        """Tell every listener."""
        for listener in list(self.listeners):
            listener(event)

    @contextlib.contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Send events to ``listener`` while inside."""
        self.listeners.append(listener)
        try:
            yield
        finally:
            self.listeners.remove(listener)

    @contextlib.contextmanager
    def work(self, group: str, name: str) -> Iterator[Piece]:
        """Report a piece of work from its start to its end, whichever end that is."""
        piece = Piece(self, group, name)
        self.emit(Event(group, name, "started"))
        try:
            yield piece
        except BaseException as error:
            message = f"{error}"[:300]
            self.emit(Event(group, name, "failed", seconds=piece.seconds, message=message))
            raise
        status: Status = "failed" if piece.failure else "reused" if piece.reused else "computed"
        message = piece.failure or piece.note
        self.emit(Event(group, name, status, seconds=piece.seconds, message=message))


class Piece:
    """One piece of work; call it with (done, total) as it advances.

    Attributes:
        failure: set it where a failure is kept and not raised.
        note: what came of it, in a few words.
        reused: whether the store had it.
    """

    def __init__(self, progress: Progress, group: str, name: str) -> None:
        self._progress, self.group, self.name = progress, group, name
        self.reused, self.failure, self.note = False, "", ""
        self._start = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Tell that ``done`` of ``total`` parts are done."""
        self._progress.emit(Event(self.group, self.name, "advanced", done, total, self.seconds))

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._start


class Pace:
    """How far a series of parts is and what is left, at the pace since it was first told of.

    A training that goes on from a checkpoint has done its first parts in no time: they do not
    count. Another total, or fewer parts done than before, is another series.
    """

    def __init__(self) -> None:
        self._first, self._done = (0, 0, 0.0), 0

    def __call__(self, done: int, total: int, seconds: float) -> str:
        """``step 3 of 10, about 2 min left``.

        Args:
            seconds: on any clock.
        """
        if total != self._first[1] or done < self._done:
            self._first = (done, total, seconds)
        self._done = done
        before, _, start = self._first
        if done >= total:
            return f"{total} steps"
        if done <= before:
            return f"step {done} of {total}"
        left = (seconds - start) / (done - before) * (total - done)
        told = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
        return f"step {done} of {total}, about {told} left"
