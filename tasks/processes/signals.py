"""Signals that ask a process to end, and what must not be cut in two by one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def undivided() -> Iterator[None]:
    """The first ending signal takes effect after the block; a second one does at once.

    For what leaves something behind when an exception comes at any line of it. Only the main thread
    is interrupted by signals; in another this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    former: dict[signal.Signals, Any] = {number: signal.getsignal(number) for number in ENDING}
    # What is ignored stays so, and what another language's code handles cannot be put back.
    former = {n: handler for n, handler in former.items() if handler not in (signal.SIG_IGN, None)}

    def note(number: int, frame: FrameType | None) -> None:
        if not waiting:
            waiting.append(number)
            return
        handler = former[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in former:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for number in waiting:
            signal.raise_signal(number)
