"""Peak memory of a piece of work."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


@dataclass
class Peak:
    """Filled in when the measured block ends.

    Attributes:
        bytes: on CUDA, of the device's allocator; else the process's resident set, model included.
    """

    bytes: int = 0


@contextlib.contextmanager
def measured(device: str) -> Iterator[Peak]:
    """Measure the peak of what runs inside, on ``device``.

    Where the kernel cannot reset a process's peak (outside Linux), the figure is the peak since
    the process started.
    """
    import torch

    on_cuda = device.startswith("cuda")
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")
    peak = Peak()
    try:
        yield peak
    finally:
        peak.bytes = torch.cuda.max_memory_allocated() if on_cuda else _resident_peak()


def _resident_peak() -> int:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
