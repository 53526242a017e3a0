"""File locks that say when somebody else holds them; each ends with its holder, however it dies."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_log = logging.getLogger("secateur.locks")
_SECONDS_BEFORE_WAITING_IS_REPORTED = 2.0


@contextmanager
def waited_for(path: Path, what: str) -> Iterator[None]:
    """Hold the lock ``path``.

    Args:
        what: another process of this home does that holds it, for the message.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    try:  # around acquiring too: an interrupt may come as soon as it is held
        try:
            lock.acquire(timeout=_SECONDS_BEFORE_WAITING_IS_REPORTED)
        except Timeout:
            _log.warning("waiting for another process that %s", what)
            lock.acquire()
        yield
    finally:
        lock.release(force=True)  # which does nothing where it is not held
