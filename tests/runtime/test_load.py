"""What other processes take of a machine."""

from __future__ import annotations

import time
from collections import namedtuple
from collections.abc import Iterator

import psutil
import pytest

from tasks.runtime.load import others_measured

Times = namedtuple("Times", ["user", "system", "idle", "iowait", "guest"])


def test_all_that_is_busy_but_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """In ten seconds this process computes for six, and others for 24, of which 3 are a guest's."""
    clocks: dict[str, Iterator[float]] = {
        "monotonic": iter([100.0, 110.0]),
        "process_time": iter([7.0, 13.0]),
    }
    for name, clock in clocks.items():
        monkeypatch.setattr(time, name, clock.__next__)
    times = iter([Times(50.0, 5.0, 900.0, 1.0, 2.0), Times(78.0, 7.0, 950.0, 9.0, 5.0)])
    monkeypatch.setattr(psutil, "cpu_times", times.__next__)
    with others_measured() as others:
        pass
    assert others.cores == pytest.approx(2.4)
