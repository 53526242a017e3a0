"""Runs a command that knows no lifeline, and ends it with all its children when the parent ends.

``python -m tasks.processes.guard COMMAND …``, started as a :class:`tasks.processes.lifeline.Child`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid

import psutil

from tasks.processes.lifeline import end_with_parent
from tasks.processes.signals import ENDING

MARK = "SECATEUR_GUARD"
GRACE_SECONDS = 8.0


def main(command: list[str]) -> None:
    """Run ``command`` to its end, or to the end of the pipe."""
    _handle(signal.SIG_IGN)  # the pipe alone ends it, in the right order
    mark = uuid.uuid4().hex
    child = subprocess.Popen(
        command,
        env={**os.environ, MARK: mark},
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: _handle(signal.SIG_DFL),  # noqa: PLW1509 (no thread runs yet)
    )

    def end() -> None:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
        _kill_marked(mark)

    end_with_parent(end)
    child.wait()
    _kill_marked(mark)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _handle(action: signal.Handlers) -> None:
    for number in ENDING:
        signal.signal(number, action)


def _kill_marked(mark: str) -> None:
    """Kill the command's processes, in whatever session they are."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.pid != os.getpid():
                process.kill()


if __name__ == "__main__":
    main(sys.argv[1:])
