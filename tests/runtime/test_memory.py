"""Peak memory, of all devices that a model may lie on."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tasks.runtime.memory import measured


def test_all_cards_are_reset_and_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = Counter({0: 100, 1: 100, 2: 100})  # of the work before
    for name, stand_in in {
        "init": lambda: None,
        "device_count": lambda: len(peaks),
        "current_device": lambda: 0,
        "reset_peak_memory_stats": lambda device=0: peaks.update({device: -peaks[device]}),
        "max_memory_allocated": lambda device=0: peaks[device],
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    with measured("cuda") as peak:
        peaks.update({0: 3, 2: 4})
    assert peak.bytes == 7
