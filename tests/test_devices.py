"""Devices are lent to one holder at a time, and free again however a holder ends."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from configs.schema import SweepConfig
from flows.compute import here
from flows.compute.devices import (
    SLOTS,
    NotEnoughDevicesError,
    devices,
    devices_of,
    environment_of,
    lease,
    threads_of,
)

KNOWN = ["0", "1", "2"]


def test_no_device_has_two_holders_and_all_are_used(tmp_path: Path) -> None:
    held: list[str] = []
    seen: list[list[str]] = []
    guard = threading.Lock()
    all_used = threading.Barrier(len(KNOWN))  # each waits until as many hold one as there are

    def hold() -> None:
        with lease(KNOWN, folder=tmp_path) as lent:
            with guard:
                held.extend(lent)
                seen.append(sorted(held))
            all_used.wait(300)
            with guard:
                held.remove(lent[0])

    threads = [threading.Thread(target=hold) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert all(len(set(names)) == len(names) for names in seen), seen
    assert max(map(len, seen)) == 3
    assert {name for names in seen for name in names} == set(KNOWN)


def test_all_or_none_so_that_two_who_want_two_of_three_do_not_wait_for_ever(tmp_path: Path) -> None:
    done: list[list[str]] = []

    def hold() -> None:
        with lease(KNOWN, 2, folder=tmp_path) as lent:
            time.sleep(0.05)
            done.append(lent)

    threads = [threading.Thread(target=hold, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert len(done) == 6
    assert all(len(set(lent)) == 2 for lent in done)


def test_more_than_there_are_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    with (
        pytest.raises(NotEnoughDevicesError, match=r"4 devices are needed.*there are 3: 0, 1, 2"),
        lease(KNOWN, 4, folder=tmp_path),
    ):
        pass


@pytest.mark.slow
def test_a_killed_holder_frees_its_device(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from flows.compute.devices import lease\n"
        "with lease(['0'], folder=Path(sys.argv[1])):\n"
        "    print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    taken = threading.Event()

    def take() -> None:
        with lease(["0"], folder=tmp_path):
            taken.set()

    thread = threading.Thread(target=take)
    thread.start()
    assert not taken.wait(1.0), "two holders of one device"
    process.kill()
    process.wait()
    assert taken.wait(300)
    thread.join()


def test_a_process_sees_only_what_it_was_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SLOTS, raising=False)
    assert environment_of(["1", "2"]) == {"CUDA_VISIBLE_DEVICES": "1,2"}
    monkeypatch.setenv(SLOTS, "cpu0, cpu1")
    assert devices() == ["cpu0", "cpu1"]
    assert environment_of(["cpu1"]) == {"CUDA_VISIBLE_DEVICES": "", SLOTS: "cpu1"}


@pytest.mark.parametrize(
    ("given", "at_once", "threads"), [(None, 4, "2"), (None, 16, "1"), ("5", 4, None)]
)
def test_cells_beside_each_other_share_the_cores(
    given: str | None, at_once: int, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert threads_of(at_once).get("OMP_NUM_THREADS") == threads


def test_a_cell_s_process_is_told_its_device_and_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Told:
        def __init__(self, cell: object) -> None:
            del cell

        def end(self, error: str, note: object) -> str:
            del note
            return error

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, stand_in in {
        "Piece": Told,
        "_computed": lambda plan, cell, given, stop: sorted(given.items()),
        "devices_of": lambda config, known: 1,
        "lease": lambda known, count, stop: contextlib.nullcontext(known[:1]),
    }.items():
        monkeypatch.setattr(here, name, stand_in)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    plan: Any = SimpleNamespace(config=None)
    cells: Any = [1, 2, 3]
    found = here._run_on(KNOWN, 3, plan, cells, lambda cell: "")
    assert list(found) == [[("CUDA_VISIBLE_DEVICES", "0"), ("OMP_NUM_THREADS", "2")]] * 3


@pytest.mark.parametrize(
    ("changes", "known", "wanted"),
    [
        ({}, 4, 1),
        ({}, 0, 0),
        ({"training": {"processes": 2}}, 4, 2),
        ({"evaluation": {"processes": 8}}, 4, 4),
        ({"evaluation": {"device_map": "auto"}}, 4, 4),
    ],
)
def test_how_many_devices_a_cell_wants(changes: dict, known: int, wanted: int) -> None:
    config = SweepConfig.model_validate(
        {"name": "a", "models": ["tiny-random"], "methods": ["magnitude"], **changes}
    )
    assert devices_of(config, known) == wanted
