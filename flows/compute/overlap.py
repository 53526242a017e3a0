"""One sweep of a name at a time in a home: a second one waits or is refused, as it says itself.

The lock is a file lock, so it ends with its holder, however that dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from configs.errors import ConfigurationError
from configs.frozen import SWEEP_NAME
from tasks.store.home import home

if TYPE_CHECKING:
    from configs.schema import SweepConfig  # which loads torch, and the worker needs none of it

_SECONDS = 1.0
"""Who asks whether a name is held, holds it for a moment."""


@contextlib.contextmanager
def exclusive(config: SweepConfig, waiting: Callable[[str], None]) -> Iterator[None]:
    """Hold the sweep's name, as its run does.

    Args:
        waiting: told once, when another sweep of that name runs and this one waits for it; it may
            raise, and wait otherwise.

    Raises:
        ConfigurationError: another runs and ``on_overlap`` is ``refuse``.
    """

    def taken(by: str) -> None:
        if config.on_overlap == "refuse":
            raise ConfigurationError(
                "name",
                config.name,
                f"a sweep of this name runs already ({by}), and on_overlap is refuse",
                "Wait for it, give this one another name, or set on_overlap to wait",
            ) from None
        waiting(f"waiting for the sweep {config.name} that runs already ({by})")

    with name_held(config.name, taken):
        yield


@contextlib.contextmanager
def name_held(name: str, taken: Callable[[str], None]) -> Iterator[None]:
    """Hold a sweep's name.

    Args:
        taken: told once, where another process holds it, which one does; it may raise, else this
            one waits.
    """
    lock = _lock(name)
    holder = Path(lock.lock_file).with_suffix(".json")
    try:
        lock.acquire(timeout=_SECONDS)
    except Timeout:
        taken(_described(holder))
        lock.acquire()
    try:
        holder.write_text(json.dumps(_self()), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def held(name: str) -> bool:
    """Whether a process of this home, this one included, runs the sweep of that name.

    A text that can be no sweep's name is held: nothing is known of it.
    """
    if not re.fullmatch(SWEEP_NAME, name):
        return True
    lock = _lock(name)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def _lock(name: str) -> FileLock:
    folder = home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    # Another object than another caller's, so that this process's own hold is seen as well.
    return FileLock(folder / f"sweep-{name}.lock", thread_local=False, is_singleton=False)


def _self() -> dict[str, str]:
    return {
        "host": socket.gethostname(),
        "process": str(os.getpid()),
        "since": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
    }


def _described(holder: Path) -> str:
    """Who holds the name, as far as it has said so yet."""
    try:
        known = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {known['process']} on {known['host']} since {known['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it began just now"
