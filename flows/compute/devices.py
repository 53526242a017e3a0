"""Devices of one host, lent to one cell at a time by file locks that end with their holder.

A limit of Prefect's counts, and does not say which device is free; these do. The locks lie in the
host's temporary folder, since a device belongs to a host and not to a sweep's home: two sweeps, or
several workers of one machine, share them.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from configs.schema import SweepConfig

SLOTS = "SECATEUR_DEVICE_SLOTS"
"""For tests, where there is no GPU: names of devices to lend, such as ``cpu0,cpu1``."""
_POLL_SECONDS = 0.2


class NotEnoughDevicesError(RuntimeError):
    """More devices were asked for than the host has."""


def devices() -> list[str]:
    """The GPUs this process may use, by index or UUID, without initialising CUDA.

    Returns:
        What CUDA_VISIBLE_DEVICES lists, else every GPU of the host; empty on a CPU.
    """
    if slots := os.environ.get(SLOTS):
        return [name.strip() for name in slots.split(",") if name.strip()]
    import torch

    # Not `is_available`, which loads the driver, after which no other device can be chosen.
    count = torch.cuda.device_count()
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return [name.strip() for name in visible.split(",") if name.strip()][:count]
    return [str(index) for index in range(count)]


def devices_of(config: SweepConfig, known: int) -> int:
    """How many devices one cell of a sweep wants at once, of ``known``; 0 where there is none."""
    if config.evaluation.device_map == "auto":
        return known
    wanted = max(config.training.processes or 1, config.evaluation.processes or 1)
    return min(wanted, known)


def environment_of(lent: Sequence[str]) -> dict[str, str]:
    """What makes a process see only the devices that were lent to it."""
    if os.environ.get(SLOTS):
        return {"CUDA_VISIBLE_DEVICES": "", SLOTS: ",".join(lent)}
    return {"CUDA_VISIBLE_DEVICES": ",".join(lent)}


def threads_of(at_once: int) -> dict[str, str]:
    """What gives each of so many processes at once its share of the cores, unless a user did."""
    import torch

    if os.environ.get("OMP_NUM_THREADS"):
        return {}
    return {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // at_once))}


class LeaseStoppedError(Exception):
    """Nobody waits for the devices any more."""


@contextlib.contextmanager
def lease(
    known: Sequence[str],
    count: int = 1,
    *,
    folder: Path | None = None,
    stop: threading.Event | None = None,
) -> Iterator[list[str]]:
    """Hold ``count`` of the devices, all or none, and wait until so many are free.

    Args:
        known: devices to choose from.
        folder: of the locks; by default this user's in the host's temporary folder.
        stop: ends the waiting when it is set.

    Raises:
        LeaseStoppedError: it was set.
        NotEnoughDevicesError: there are fewer devices than that.
    """
    if count > len(known):
        raise NotEnoughDevicesError(
            f"{count} devices are needed at once, and there are {len(known)}: {', '.join(known)}"
        )
    folder = folder or _folder()
    while True:
        held = _take(known, count, folder)
        if len(held) == count:
            break
        if stop and stop.wait(_POLL_SECONDS):
            raise LeaseStoppedError
        if not stop:
            time.sleep(_POLL_SECONDS)
    try:
        yield list(held)
    finally:
        _release(held)


def _take(known: Sequence[str], count: int, folder: Path) -> dict[str, FileLock]:
    """``count`` free devices and their locks; empty when there are not so many."""
    held: dict[str, FileLock] = {}
    # One process chooses at a time: two that each hold half of what both need would wait for ever.
    with FileLock(folder / "choosing.lock"):
        for name in known:
            if len(held) == count:
                break
            lock = FileLock(folder / f"device-{name.replace('/', '_')}.lock", thread_local=False)
            with contextlib.suppress(Timeout):
                lock.acquire(timeout=0)
                held[name] = lock
        if len(held) < count:
            _release(held)
            return {}
    return held


def _release(held: dict[str, FileLock]) -> None:
    for lock in held.values():
        lock.release()


def _folder() -> Path:
    """This user's folder of locks; another user's, or a link, is not trusted."""
    path = Path(tempfile.gettempdir(), f"secateur-devices-{os.getuid()}")
    path.mkdir(mode=0o700, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path} belongs to another user; device locks need it")
    return path
