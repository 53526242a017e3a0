"""Peak memory of a piece of work."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


@dataclass
class Peak:
    """Filled in when the measured block ends.

    Attributes:
        bytes: on CUDA, of this process's allocators: the sum of each visible device's own peak,
            without what lies in main memory; else the process's resident set, model included.
    """

    bytes: int = 0


@contextlib.contextmanager
def measured(device: str) -> Iterator[Peak]:
    """Measure the peak of what runs inside, on devices of the kind of ``device``.

    Where the kernel cannot reset a process's peak (outside Linux), the figure is the peak since
    the process started.
    """
    import torch

    on_cuda = device.startswith("cuda")
    if on_cuda:
        torch.cuda.init()  # statistics of a device by its number are refused before
        for index in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(index)
    else:
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")
    peak = Peak()
    try:
        yield peak
    finally:
        peak.bytes = _allocated_peak() if on_cuda else _resident_peak()


def obtainable(device: torch.device) -> int:
    """Bytes of a GPU that this process may have: what is free, and what it holds already."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device)


def _allocated_peak() -> int:
    import torch

    return sum(map(torch.cuda.max_memory_allocated, range(torch.cuda.device_count())))


def _resident_peak() -> int:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
