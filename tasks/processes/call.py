"""Calls a function in processes of its own: a job in JSON goes in, each one's result comes out.

The processes hang on a lifeline, and each tells its progress, result or error over a pipe. When one
fails, the others are ended at once, for they would wait for it in vain. Their half is ``rank.py``.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from tasks.processes.lifeline import Child

_POLL_SECONDS = 0.2
_TAIL_LINES = 30
_HOST = "127.0.0.1"


class CallError(RuntimeError):
    """A process failed; the message holds which one and what it said."""


def call(
    function: Callable[..., Any] | str,
    job: Any,
    *,
    work: str,
    processes: int = 1,
    scratch: Path | None = None,
    environment: Mapping[str, str] | None = None,
    show: bool = False,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> list[Any]:
    """``function(job)`` in a process of its own, or ``function(job, rank)`` in each of several.

    Args:
        function: of a module's top level, or its name as ``module:function``, which is not
            imported here.
        job: what JSON can hold.
        work: what they do, in a word that an error's message begins with, such as ``training``.
        scratch: a folder that exists, where they leave their logs; None: a temporary one.
        environment: of the processes; None: this one's.
        show: what they print is shown, and kept in no log.
        progress: called with (parts done by all together, the most that any gave as total).
        stop: ends them when it is set.

    Returns:
        What each returned, which JSON must hold, in the order of the ranks.

    Raises:
        CallError: as soon as one failed, with its traceback or the end of its log.
    """
    name = function if isinstance(function, str) else f"{function.__module__}:{function.__name__}"
    told = json.dumps(job).encode() + b"\n"
    with ExitStack() as stack:
        if scratch is None:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="secateur-")))
        base = dict(os.environ if environment is None else environment)
        meeting = stack.enter_context(_meeting(processes))
        ranks = [
            stack.enter_context(
                _Process(
                    [name, str(scratch), str(index), str(processes)],
                    {**base, **meeting, **_place(index, processes)},
                    None if show else scratch / f"rank-{index}.log",
                    told,
                )
            )
            for index in range(processes)
        ]
        _watch(ranks, work, progress, stop)
        return [rank.result for rank in ranks]


def _place(index: int, processes: int) -> dict[str, str]:
    """What torch and Accelerate ask for about one of several processes."""
    if processes == 1:
        return {}
    ranks, sizes = ("RANK", "LOCAL_RANK"), ("WORLD_SIZE", "LOCAL_WORLD_SIZE")
    return dict.fromkeys(ranks, str(index)) | dict.fromkeys(sizes, str(processes))


@contextmanager
def _meeting(processes: int) -> Iterator[dict[str, str]]:
    """Where several processes meet: a store that the parent holds, so that no port is raced for."""
    if processes == 1:
        yield {}
        return
    import torch
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    store = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    threads = max(1, torch.get_num_threads() // processes)
    yield {
        "MASTER_ADDR": _HOST,
        "MASTER_PORT": str(store.port),
        "OMP_NUM_THREADS": str(threads),
    }


class _Process:
    """One of the processes, and what it has told."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path | None,
        told: bytes,
    ) -> None:
        self.done = (0, 0)
        self.error = ""
        self.error_at = 0.0
        self.succeeded = False
        self.result: Any = None
        self._log, self._rest = log, b""
        self.reading, writing = os.pipe()
        os.set_blocking(self.reading, False)
        try:
            with ExitStack() as stack:
                self.child = Child(
                    [sys.executable, "-m", "tasks.processes.rank", *arguments, str(writing)],
                    environment=environment,
                    output=stack.enter_context(log.open("wb")) if log else None,
                    descriptors=[writing],
                    told=told,
                )
        finally:
            os.close(writing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        os.close(self.reading)

    def read(self) -> bool:
        """Take in what it has told; False once its pipe has ended."""
        with suppress(BlockingIOError):
            while received := os.read(self.reading, 1 << 16):
                *lines, self._rest = (self._rest + received).split(b"\n")
                for line in lines:
                    self._take(*json.loads(line))
            return False
        return True

    def _take(self, kind: str, *what: Any) -> None:
        if kind == "progress":
            self.done = (what[0], what[1])
        elif kind == "error":
            self.error, self.error_at = what
        else:
            self.succeeded, (self.result,) = True, what

    def failure(self) -> str:
        """How it failed, and the end of its log unless it said so itself."""
        if self.error:
            return f" failed:\n{self.error}"
        status = self.child.status or 0
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended: {status}"
        lines = self._log.read_text(errors="replace").splitlines() if self._log else []
        return "\n".join([f" {how}", *lines[-_TAIL_LINES:]])


def _watch(
    ranks: Sequence[_Process],
    work: str,
    progress: Callable[[int, int], None] | None,
    stop: threading.Event | None,
) -> None:
    """Return once all succeeded.

    Raises:
        CallError: as soon as one did not, or ``stop`` is set.
    """
    before = None
    with selectors.DefaultSelector() as selector:
        for rank in ranks:
            selector.register(rank.reading, selectors.EVENT_READ, rank)
        while True:
            if stop and stop.is_set():
                raise CallError(f"{work} was stopped")
            for key, _ in selector.select(_POLL_SECONDS):
                if not key.data.read():
                    selector.unregister(key.fd)
                    key.data.child.wait(_POLL_SECONDS)
            ended = [rank for rank in ranks if rank.child.ended]
            for rank in ended:
                rank.read()
            done = sum(rank.done[0] for rank in ranks), max(rank.done[1] for rank in ranks)
            if progress and done[1] and done != before:
                progress(*done)
            before = done
            if failed := [rank for rank in ended if rank.child.status or not rank.succeeded]:
                # The first: the others fail because it is gone.
                first = min(failed, key=lambda rank: (bool(rank.error), rank.error_at))
                which = f" {ranks.index(first)} of {len(ranks)}" if len(ranks) > 1 else ""
                raise CallError(f"{work} process{which}{first.failure()}")
            if len(ended) == len(ranks):
                return
