"""A cell's signs of life: of a slow one, a dead one, one whose machine is gone, one to be ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from flows.compute.pulse import Pulse, beating, silence_seconds, stop

CODE = """
import sys
from pathlib import Path
from flows.compute.pulse import beating
with beating(Path(sys.argv[1]), beat_seconds=0.2):
    print("begun", flush=True)
    {work}
"""
BUSY = "10 ** 10 ** 8  # one operation that lets no other thread run, and no signal in"
IDLE = "import time; time.sleep(600)"
Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pulses" / "cell.beat"


@pytest.fixture
def start(path: Path) -> Iterator[Start]:
    started = []

    def begin(work: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE.format(work=work), str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def looked(pulse: Pulse) -> Pulse:
    pulse.look()
    return pulse


def test_a_cell_that_is_only_busy_shows_that_it_lives(path: Path, start: Start) -> None:
    process = start(BUSY)
    pulse = Pulse(path)
    until(lambda: looked(pulse).begun)
    longest, end = 0.0, time.monotonic() + 4
    while time.monotonic() < end:
        longest = max(longest, looked(pulse).silent_seconds)
        time.sleep(0.05)
    assert process.poll() is None, "it was to be busy all the time"
    assert longest < 2.5
    assert not pulse.ended
    assert pulse.where.endswith(f":{process.pid}")


def test_the_end_of_a_killed_cell_is_told_at_once(path: Path, start: Start) -> None:
    process = start(IDLE)
    pulse = Pulse(path)
    until(lambda: looked(pulse).begun)
    assert not pulse.ended
    process.kill()
    until(lambda: looked(pulse).ended, 3)
    assert pulse.where.endswith(f":{process.pid}")


def test_a_machine_that_is_gone_is_silent(path: Path, start: Start) -> None:
    process = start(IDLE)
    pulse = Pulse(path)
    until(lambda: looked(pulse).begun)
    for child in psutil.Process(process.pid).children():
        child.kill()
    process.kill()
    time.sleep(1.5)
    assert looked(pulse).silent_seconds > 1
    assert not pulse.ended, "nobody was left to say so"


def test_a_stop_file_ends_the_cell(path: Path, start: Start) -> None:
    process = start(IDLE)
    stop(path)
    assert process.wait(10) == -signal.SIGTERM


def test_the_end_of_a_cell_that_succeeds_is_told_too(path: Path) -> None:
    with beating(path, beat_seconds=0.2):
        until(lambda: looked(Pulse(path)).begun)
    assert looked(Pulse(path)).ended
    Pulse(path).forget()
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("given", ["soon", "nan", "-1", "3"])
def test_a_wrong_silence_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_SILENCE_SECONDS", given)
    with pytest.raises(ValueError, match=f"SECATEUR_SILENCE_SECONDS: '{given}'.*at least 15"):
        silence_seconds()
