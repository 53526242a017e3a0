"""The process beside a cell that writes its pulse; imports nothing of this project.

    python -I -S pulse_child.py PATH SECONDS

Ends with its standard input, and then writes that the cell's process is gone. A stop file beside
PATH ends the parent.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time

STOP = ".stop"
ENDED = "ended"
_GRACE_SECONDS = 20.0


def _write(path: str, word: str, owner: str) -> None:
    # A shared folder may be away for a while; the next beat tries again.
    with contextlib.suppress(OSError):
        partial = f"{path}.{os.getpid()}"
        with open(partial, "w") as file:  # noqa: PTH123 (pathlib would triple the start)
            file.write(f"{word} {owner}")
        os.replace(partial, path)  # noqa: PTH105


def main(path: str, seconds: float) -> None:
    """Beat until the parent ends."""
    parent = os.getppid()
    owner = f"{socket.gethostname()}:{parent}"
    stop = os.path.splitext(path)[0] + STOP  # noqa: PTH122
    beats, told_at = 0, 0.0
    while True:
        beats += 1
        _write(path, str(beats), owner)
        if select.select([sys.stdin], [], [], seconds)[0]:
            _write(path, ENDED, owner)
            return
        if os.path.exists(stop):  # noqa: PTH110
            # The pipe is open, so the parent lives and its number is its own.
            last = told_at and time.monotonic() - told_at > _GRACE_SECONDS
            with contextlib.suppress(ProcessLookupError):
                os.kill(parent, signal.SIGKILL if last else signal.SIGTERM)
            told_at = told_at or time.monotonic()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
