"""Signs of life of a cell that another machine computes, as a small file in the shared home.

A child process of the cell writes a new number every few seconds. It is a process and not a thread,
so that work which keeps Python from running anything else for minutes does not look like death, and
it reads a pipe which ends with the cell: a cell that dies alone is reported at once, and only one
that dies with its whole machine is noticed by silence. Whoever watches compares contents, never
times, so the machines' clocks need not agree.

The same child obeys a stop file: the way to end a cell whose worker is gone or cannot be reached.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flows.compute import pulse_child

BEAT_SECONDS = 5.0
SILENCE_SECONDS = 60.0
"""So long without a new number, and a cell counts as dead; SECATEUR_SILENCE_SECONDS changes it."""


def silence_seconds() -> float:
    """How long a cell may be silent.

    Raises:
        ValueError: when SECATEUR_SILENCE_SECONDS is no number of at least three beats.
    """
    given = os.environ.get("SECATEUR_SILENCE_SECONDS") or str(SILENCE_SECONDS)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not seconds >= 3 * BEAT_SECONDS:
        raise ValueError(
            f"SECATEUR_SILENCE_SECONDS: {given!r} is not possible; "
            f"it must be a number of seconds, at least {3 * BEAT_SECONDS:g}"
        )
    return seconds


@contextlib.contextmanager
def beating(path: Path, *, beat_seconds: float = BEAT_SECONDS) -> Iterator[None]:
    """Show at ``path`` that this process lives; end it when ``stop(path)`` is called anywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    child = subprocess.Popen(
        # Without site and environment it starts in milliseconds and holds 10 MB.
        [sys.executable, "-I", "-S", pulse_child.__file__, str(path), str(beat_seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # it outlives a signal to the cell's group, and reports its end
    )
    try:
        yield
    finally:
        assert child.stdin is not None
        with contextlib.suppress(OSError):
            child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(2 * beat_seconds)


def stop(path: Path) -> None:
    """Ask the cell that beats at ``path`` to end: SIGTERM, and SIGKILL if it is still there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(pulse_child.STOP).touch()


@dataclass
class Pulse:
    """What a watcher knows of one cell's signs of life."""

    path: Path
    _seen: str = ""
    _changed: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        """Read the file once; an unreadable one is no sign of life."""
        with contextlib.suppress(OSError):
            # Opened and read, since a network file system may answer `stat` from its cache.
            found = self.path.read_text()
            if found != self._seen:
                self._seen, self._changed = found, time.monotonic()

    @property
    def begun(self) -> bool:
        return bool(self._seen)

    @property
    def ended(self) -> bool:
        """Whether the cell's process is known to be gone."""
        return self._seen.startswith(pulse_child.ENDED)

    @property
    def silent_seconds(self) -> float:
        return time.monotonic() - self._changed

    @property
    def where(self) -> str:
        """Host and process of the cell, for messages; empty before the first beat."""
        return self._seen.rpartition(" ")[2]

    def forget(self) -> None:
        """Remove the cell's files."""
        for path in (self.path, self.path.with_suffix(pulse_child.STOP)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
