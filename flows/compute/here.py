"""Computes the cells of a sweep on this machine: one after another, or one a device at a time.

With several GPUs each cell is a process of its own that sees only the devices lent to it. Such a
process reads a pipe that ends with this one, however this one ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.cell import run_cell
from flows.compute.cancelling import raise_if_cancelled
from flows.compute.leases import devices, devices_of, environment_of, lease
from tasks.plan.plan import Cell, Plan
from tasks.runtime.progress import Piece as Progress
from tasks.steps.session import session

Note = Callable[[Cell], str]
"""What came of a completed cell, in a few words."""


@dataclass(frozen=True)
class Ended:
    """A cell that was computed or failed.

    Attributes:
        error: why it failed; empty when it succeeded.
        seconds: from its start to its end, waiting in a queue not counted.
    """

    cell: Cell
    error: str
    seconds: float


@dataclass
class Piece:
    """A cell as the terminal sees it, from its start to :meth:`end`."""

    cell: Cell
    _open: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        told = session().progress.work(self.cell.subject.label, "cell")
        self._work: Progress = self._open.enter_context(told)

    def end(self, error: str, note: Note) -> Ended:
        """Tell how it ended."""
        self._work.failure = error
        if not error:
            self._work.note = note(self.cell)
        self._open.close()
        return Ended(self.cell, error, time.monotonic() - self._started)


def reason_of(state: Any) -> str:
    """A failed state's reason, as a user shall read it."""
    result = state.result(raise_on_failure=False)
    if isinstance(result, BaseException) and not state.message:
        return f"{type(result).__name__}: {result}"
    return str(state.message or result).removeprefix("Task run encountered an exception ")


def run_here(plan: Plan, cells: Sequence[Cell], note: Note) -> Generator[Ended, None, None]:
    """Compute cells on this machine's devices, and tell as each ends.

    Raises:
        SweepCancelledError: someone cancels the sweep's flow run.
    """
    known = devices()
    at_once = len(known) // max(1, devices_of(plan.config, len(known)))
    if at_once > 1 and len(cells) > 1:
        yield from _run_on(known, min(at_once, len(cells)), plan, cells, note)
        return
    for cell in cells:
        raise_if_cancelled()
        piece = Piece(cell)
        state = run_cell(
            config=plan.config,
            **cell.axes,
            return_state=True,
        )
        yield piece.end("" if state.is_completed() else reason_of(state), note)


def _run_on(
    known: Sequence[str], threads: int, plan: Plan, cells: Sequence[Cell], note: Note
) -> Iterator[Ended]:
    waiting: queue.SimpleQueue[Cell] = queue.SimpleQueue()
    for cell in cells:
        waiting.put(cell)
    ended: queue.SimpleQueue[Ended | BaseException] = queue.SimpleQueue()
    group = _Processes()

    def serve() -> None:
        with contextlib.suppress(queue.Empty):
            while not group.stopped:
                cell = waiting.get_nowait()
                try:
                    with lease(known, devices_of(plan.config, len(known))) as lent:
                        piece = Piece(cell)
                        error = group.run(_job(plan, cell), environment_of(lent))
                        ended.put(piece.end(error, note))
                except BaseException as error:  # noqa: BLE001 (raised again where it is awaited)
                    ended.put(error)
                    return

    workers = [threading.Thread(target=serve, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        for _ in cells:
            found = _next(ended)
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        group.stop()
        for worker in workers:
            worker.join()


def _next(ended: queue.SimpleQueue[Ended | BaseException]) -> Ended | BaseException:
    while True:
        try:
            return ended.get(timeout=2.0)
        except queue.Empty:
            raise_if_cancelled()


def _inherited() -> dict[str, str]:
    """The environment without what tells a process of Prefect's which run it is."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")}


def _job(plan: Plan, cell: Cell) -> dict[str, Any]:
    return {
        "config": plan.config.model_dump(mode="json"),
        **cell.axes,
    }


class _Processes:
    """The cells' processes; none outlives :meth:`stop`."""

    def __init__(self) -> None:
        self.stopped = False
        self._running: set[subprocess.Popen[str]] = set()
        self._guard = threading.Lock()

    def run(self, job: dict[str, Any], environment: dict[str, str]) -> str:
        """Compute one cell; why it failed, or nothing."""
        with self._guard:
            if self.stopped:
                return "the sweep was stopped"
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.compute.cell_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=_inherited() | environment,
                text=True,
                start_new_session=True,
            )
            self._running.add(process)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(job) + "\n")
                process.stdin.flush()
            told = [line for line in process.stdout if line.startswith("{")]
            status = process.wait()
        finally:
            with self._guard:
                self._running.discard(process)
            _kill(process)
        if status == 0 and told:
            return str(json.loads(told[-1])["error"])
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended: {status}"
        return f"the process of this cell {how}; the sweep's log file may say why"

    def stop(self) -> None:
        with self._guard:
            self.stopped = True
            running = list(self._running)
        for process in running:
            _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process and its group, unless it has ended."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
