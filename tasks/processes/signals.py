"""Signals that ask a process to end, and what must not be cut in two by one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def at_once(number: int, _frame: object) -> None:
    """Handles a signal by ending the process."""
    os._exit(128 + number)


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

    def note(number: int, frame: object) -> None:
        if waiting:
            at_once(number, frame)
        waiting.append(number)

    former = [(number, signal.getsignal(number)) for number in ENDING]
    # What cuts nothing in two stays; and what another language's code handles cannot be put back.
    stays = (signal.SIG_IGN, signal.SIG_DFL, at_once, None)
    former = [(number, handler) for number, handler in former if handler not in stays]
    try:
        for number, _ in former:
            signal.signal(number, note)
        yield
    finally:
        _restore(note, former)
        for number in waiting:
            signal.raise_signal(number)


def _restore(ours: Any, handlers: Sequence[tuple[signal.Signals, Any]]) -> None:
    """Put all back, though one that is back may raise already, or set others."""
    if not handlers:
        return
    try:
        if signal.getsignal(handlers[0][0]) is ours:
            signal.signal(*handlers[0])
    finally:
        _restore(ours, handlers[1:])
