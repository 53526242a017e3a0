"""What a signal does not cut in two."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.processes.signals import ENDING, at_once, undivided

ROOT = Path(__file__).resolve().parents[2]


class AskedError(Exception):
    """A signal came."""


def ask(number: int, _frame: object) -> None:
    raise AskedError(number)


@pytest.fixture(autouse=True)
def _handled() -> Iterator[None]:
    former = {number: signal.signal(number, ask) for number in ENDING}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in ENDING]


@pytest.mark.parametrize("number", ENDING)
def test_the_first_signal_waits_for_the_end(number: int) -> None:
    done = []
    with pytest.raises(AskedError, match=str(int(number))), undivided():
        signal.raise_signal(number)
        done.append("all of it")
    assert done and handlers() == [ask] * len(ENDING)


def test_the_second_signal_ends_the_process() -> None:
    """It would raise inside, and so leave behind what the block is there for."""
    program = """
import signal
from tasks.processes.signals import undivided
signal.signal(signal.SIGTERM, signal.default_int_handler)
with undivided():
    signal.raise_signal(signal.SIGTERM)
    print("the first waits", flush=True)
    signal.raise_signal(signal.SIGINT)
    print("the second does not")
"""
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (ran.returncode, ran.stdout) == (130, "the first waits\n"), ran.stderr


def test_what_ends_the_process_is_left_to_do_so() -> None:
    """As after a first signal that came before the block."""
    signal.signal(signal.SIGINT, at_once)
    with undivided():
        assert signal.getsignal(signal.SIGINT) is at_once
        assert signal.getsignal(signal.SIGTERM) is not ask


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_while_handlers_are_put_back_leaves_none_behind(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as one is back it may raise."""
    put = signal.signal

    def interrupted(of: signal.Signals, handler: object) -> object:
        result = put(of, handler)
        if of == number and handler is ask:
            signal.raise_signal(number)
        return result

    with pytest.raises(AskedError), undivided():
        monkeypatch.setattr(signal, "signal", interrupted)
    monkeypatch.undo()
    assert handlers() == [ask] * len(ENDING)


def test_a_failure_inside_is_told_beside_the_signal() -> None:
    with pytest.raises(AskedError) as told, undivided():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("inside")
    assert isinstance(told.value.__context__, ValueError)


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with undivided():
        for _ in range(3):
            signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_another_thread_leaves_handlers_alone() -> None:
    seen: list[list[object]] = []

    def work() -> None:
        with undivided():
            seen.append(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [[ask] * len(ENDING)]
