"""How much of this machine other processes take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psutil


@dataclass
class Others:
    """Filled in when the measured block ends.

    Attributes:
        cores: of this machine, that processes other than this one kept busy on average.
    """

    cores: float = 0.0


@contextlib.contextmanager
def others_measured() -> Iterator[Others]:
    """Measure what others take while what is inside runs.

    The kernel counts in hundredths of a second, so of less than a second little can be told.
    """
    others = Others()
    start, before = time.monotonic(), _busy_seconds() - time.process_time()
    try:
        yield others
    finally:
        after, seconds = _busy_seconds() - time.process_time(), time.monotonic() - start
        others.cores = max(0.0, (after - before) / max(seconds, 1e-3))


def _busy_seconds() -> float:
    """Of all cores together, since the machine started."""
    times = psutil.cpu_times()._asdict()
    # Linux counts guests among the users' time as well.
    idle = ("idle", "iowait", "guest", "guest_nice")
    return sum(seconds for name, seconds in times.items() if name not in idle)
