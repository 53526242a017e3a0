"""Runs a command that ends, with all its children, when this process's standard input ends.

``python -m tasks.processes.guard COMMAND …`` must lead a session of its own. Whoever starts it
holds the other end of the pipe, so however that process dies, the pipe ends, and nothing of the
command is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import uuid

import psutil

MARK = "SECATEUR_GUARD"
GRACE_SECONDS = 8.0


def main(command: list[str]) -> int:
    """Run ``command``; its exit status, or 0 when the pipe ended it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the pipe alone ends it, in the right order
    mark = uuid.uuid4().hex
    child = subprocess.Popen(
        command,
        env={**os.environ, MARK: mark},
        stdin=subprocess.DEVNULL,
        preexec_fn=_default_signals,  # noqa: PLW1509 (no thread runs yet)
    )

    def end_with_parent() -> None:
        while os.read(0, 1024):
            pass
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE_SECONDS)
        _kill_all(mark)

    threading.Thread(target=end_with_parent, daemon=True).start()
    child.wait()
    _kill_all(mark)
    return child.returncode


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _kill_all(mark: str) -> None:
    """Kill the command's processes, in whatever session they are, then this one's session."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.pid != os.getpid():
                process.kill()
    os.killpg(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
