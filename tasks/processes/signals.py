"""Signals that ask a process to end, and what must not be cut in two by one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def undivided() -> Iterator[None]:
    """An ending signal takes effect after the block; a second one ends the process at once.

    For what leaves something behind when an exception comes at any line of it: inside no handler
    raises. Only the main thread is interrupted by signals; in another this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if waiting:
            os._exit(128 + number)
        waiting.append(number)

    former = [(number, signal.getsignal(number)) for number in ENDING]
    # What is ignored stays so, and what another language's code handles cannot be put back.
    former = [(number, it) for number, it in former if it not in (signal.SIG_IGN, None)]
    try:
        for number, _ in former:
            signal.signal(number, note)
        yield
    finally:
        _restore(former)
        for number in waiting:
            signal.raise_signal(number)


def _restore(handlers: Sequence[tuple[signal.Signals, Any]]) -> None:
    """Put all back, though one that is back may raise already."""
    if not handlers:
        return
    try:
        signal.signal(*handlers[0])
    finally:
        _restore(handlers[1:])
