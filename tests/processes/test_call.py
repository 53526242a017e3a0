"""Calls in processes of their own: results, errors in words, and no process that is left behind."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import distributed

from tasks.processes.call import CallError, call
from tasks.processes.lifeline import output_of
from tasks.processes.rank import Rank, joined

WAIT = "processes.test_call:wait"
PARENT = f"""
from tasks.processes.call import call
call({WAIT!r}, {{}}, work="waiting", progress=lambda done, total: None)
"""


def double(job: dict[str, Any]) -> dict[str, Any]:
    sys.stdout.write("this is no result\n")
    return {"doubled": 2 * job["number"]}


def fail(job: str) -> None:
    raise ValueError(job)


def die(job: dict[str, Any]) -> None:
    del job
    sys.stdout.write("the last words\n")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def leave(job: dict[str, Any]) -> None:
    del job
    os._exit(0)


def fail_while_others_wait(job: dict[str, Any], rank: Rank) -> None:
    """As with NCCL, leaving the group waits for those who wait in it."""
    del job
    distributed.destroy_process_group = lambda *_: time.sleep(3600)
    atexit.register(time.sleep, 3600)  # stands for the group's destructor
    with joined(torch.device("cpu")):
        if rank.index == 1:
            raise ValueError("the real error")
        distributed.barrier()


def keep_others_waiting(job: dict[str, Any], rank: Rank) -> int:
    """Longer than torch would let them, whose limit is a second here."""
    del job
    distributed.distributed_c10d.default_pg_timeout = timedelta(seconds=1)
    with joined(torch.device("cpu")):
        distributed.barrier()
        if rank.index == 1:
            time.sleep(3)
        numbers = torch.tensor([rank.index + 1])
        distributed.all_reduce(numbers)
    return int(numbers)


def wait(job: dict[str, Any]) -> None:
    """With a child that knows nothing of lifelines."""
    del job
    subprocess.run(["/bin/sleep", "600"], check=True)


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    tests = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", f"{tests}{os.pathsep}{tests.parent}")


def waiting(parent: int) -> list[psutil.Process]:
    """The sleeping grandchildren of a process."""
    found = psutil.Process(parent).children(recursive=True)
    return [process for process in found if process.name() == "sleep"]


def until(condition: Any) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_result_comes_back_whatever_is_printed() -> None:
    found = call("processes.test_call:double", {"number": 21}, work="doubling")
    assert found == [{"doubled": 42}]


def test_an_error_comes_with_its_traceback() -> None:
    with pytest.raises(CallError) as raised:
        call("processes.test_call:fail", "too small", work="trying")
    assert str(raised.value).startswith("trying process failed:\nTraceback")
    assert "ValueError: too small" in str(raised.value)


def test_a_killed_process_is_named_with_the_end_of_its_log() -> None:
    with pytest.raises(CallError) as raised:
        call("processes.test_call:die", {}, work="dying")
    assert str(raised.value) == "dying process was ended by SIGKILL\nthe last words"


def test_a_process_that_ends_without_a_result_has_failed() -> None:
    with pytest.raises(CallError, match="leaving process ended: 0"):
        call("processes.test_call:leave", {}, work="leaving")


def test_the_error_of_one_of_several_is_told_at_once() -> None:
    with pytest.raises(CallError) as raised:
        call("processes.test_call:fail_while_others_wait", {}, work="trying", processes=2)
    assert str(raised.value).startswith("trying process 1 of 2 failed:\nTraceback")
    assert "ValueError: the real error" in str(raised.value)


def test_a_rank_may_keep_the_others_waiting() -> None:
    found = call("processes.test_call:keep_others_waiting", {}, work="adding", processes=2)
    assert found == [3, 3]


def test_stopping_ends_the_children_of_the_process() -> None:
    stop = threading.Event()
    children: list[psutil.Process] = []

    def watch() -> None:
        until(lambda: waiting(os.getpid()))
        children.extend(waiting(os.getpid()))
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    with pytest.raises(CallError, match="waiting was stopped"):
        call(WAIT, {}, work="waiting", stop=stop)
    watcher.join()
    until(lambda: not any(child.is_running() for child in children))


def test_nothing_outlives_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT])
    until(lambda: waiting(parent.pid))
    family = psutil.Process(parent.pid).children(recursive=True)
    assert len(family) == 2
    parent.kill()
    parent.wait()
    until(lambda: not any(member.is_running() for member in family))


def test_what_a_command_prints_or_nothing(tmp_path: Path) -> None:
    assert output_of([sys.executable, "-c", "print(' seen ')"], tmp_path, 60) == "seen"
    assert output_of([sys.executable, "-c", "exit(1)"], tmp_path, 60) is None
    assert output_of(["no-such-command"], tmp_path, 60) is None
