"""How the command ends: in order at the first signal, at once at the second, and always quickly."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

from tasks.processes.signals import ENDING, at_once


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end.

    Attributes:
        status: the exit status that says so.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextlib.contextmanager
def interruptible(again: Callable[..., None] | signal.Handlers = at_once) -> Iterator[None]:
    """Raise :class:`Interrupted` in the block at the first signal.

    Args:
        again: handles those that follow.
    """

    def first(number: int, _frame: object) -> None:
        for other in heeded:
            signal.signal(other, again)
        raise Interrupted(number)

    # What is ignored stays so: under nohup a closed terminal is no reason to end.
    heeded = [n for n in ENDING if signal.getsignal(n) != signal.SIG_IGN]
    former = {number: signal.signal(number, first) for number in heeded}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def leave(status: int) -> NoReturn:
    """End this process without tearing down its modules, which takes seconds and does nothing."""
    atexit._run_exitfuncs()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a closed pipe or terminal
            stream.flush()
    os._exit(status)
