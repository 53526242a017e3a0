"""A child ends with its parent, whatever way the parent ends.

Its standard input is a pipe whose other end the parent holds, so that the kernel closes it even
where the parent is killed. A thread of the child reads it, and at its end kills the child's process
group, which is its own: a signal to the parent's group is the parent's to handle.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self


class Child:
    """A running command that calls :func:`end_with_parent`, or is wrapped by ``guard.py``.

    As a context manager, nothing of it outlives the block.

    Args:
        environment: its whole environment; None: this process's.
        output: takes what it prints; None: this process's own standard output and error.
        descriptors: open files that it inherits.
        told: the beginning of its standard input.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        output: BinaryIO | None = None,
        descriptors: Sequence[int] = (),
        told: bytes = b"",
    ) -> None:
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            pass_fds=descriptors,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._pipe = self._process.stdin
        with suppress(BrokenPipeError):  # it has ended, and its status says how
            self._pipe.write(told)
            self._pipe.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def status(self) -> int | None:
        """The exit status, negative after a signal; None while it runs."""
        return self._process.poll()

    @property
    def ended(self) -> bool:
        return self.status is not None

    def wait(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.ended

    def stop(self, seconds: float) -> None:
        """Close the pipe, and kill what is left after so many seconds."""
        self._close()
        self.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End it and its group at once."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._close()

    def _close(self) -> None:
        with suppress(BrokenPipeError):
            self._pipe.close()


def end_with_parent(first: Callable[[], object] | None = None) -> None:
    """The child's half: from now on this process's group ends with its standard input.

    Args:
        first: called before the group is killed, to end in order what can be.
    """

    def watch() -> None:
        # Not through sys.stdin, whose lock a thread that waits would hold as the interpreter ends.
        while os.read(0, 1 << 10):
            pass
        if first:
            first()
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def output_of(command: Sequence[str], folder: Path, seconds: float) -> str | None:
    """What a short command prints; None where it fails, is missing or takes too long."""
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
