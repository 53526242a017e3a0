"""Computes the cells of a sweep on this machine: one after another, or one a device at a time.

With several GPUs each cell is a process of its own that sees only the devices lent to it, and takes
its share of the cores.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from configs.yaml_file import validate
from flows.cell import run_cell
from flows.compute.cancelling import raise_if_cancelled
from flows.compute.devices import (
    LeaseStoppedError,
    devices,
    devices_of,
    environment_of,
    lease,
    threads_of,
)
from tasks.plan.plan import Cell, Plan
from tasks.plan.sources import to_json
from tasks.processes.call import CallError, call
from tasks.runtime.progress import Piece as Progress
from tasks.steps.session import session
from tasks.store.home import home

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
    known: Sequence[str], at_once: int, plan: Plan, cells: Sequence[Cell], note: Note
) -> Iterator[Ended]:
    waiting: queue.SimpleQueue[Cell] = queue.SimpleQueue()
    for cell in cells:
        waiting.put(cell)
    ended: queue.SimpleQueue[Ended | BaseException] = queue.SimpleQueue()
    stop = threading.Event()

    def serve() -> None:
        with contextlib.suppress(queue.Empty):
            while not stop.is_set():
                cell = waiting.get_nowait()
                try:
                    count = devices_of(plan.config, len(known))
                    with lease(known, count, stop=stop) as lent:
                        piece = Piece(cell)
                        given = environment_of(lent) | threads_of(at_once)
                        ended.put(piece.end(_computed(plan, cell, given, stop), note))
                except LeaseStoppedError:
                    return
                except BaseException as error:  # noqa: BLE001 (raised again where it is awaited)
                    ended.put(error)
                    return

    workers = [threading.Thread(target=serve, daemon=True) for _ in range(at_once)]
    for worker in workers:
        worker.start()
    try:
        for _ in cells:
            found = _next(ended)
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def _next(ended: queue.SimpleQueue[Ended | BaseException]) -> Ended | BaseException:
    while True:
        try:
            return ended.get(timeout=2.0)
        except queue.Empty:
            raise_if_cancelled()


def _computed(plan: Plan, cell: Cell, given: Mapping[str, str], stop: threading.Event) -> str:
    """Compute a cell in a process whose environment holds what is given; why it failed, if so."""
    job = {
        "config": plan.config.model_dump(mode="json"),
        "axes": cell.axes,
        # Its inputs are those that this process has resolved, whatever has changed since.
        "sources": to_json(plan.sources, home()),
        "fingerprint": cell.fingerprint,
    }
    # Without what tells a process of Prefect's which run it is.
    inherited = {k: value for k, value in os.environ.items() if not k.startswith("PREFECT__")}
    environment = {**inherited, **given}
    try:
        return call(
            compute_cell, job, work="the cell's", environment=environment, show=True, stop=stop
        )[0]
    except CallError as error:
        return f"{error}; the sweep's log file may say why"


def compute_cell(job: dict[str, Any]) -> str:
    """One cell, in a process of its own; why it failed, or nothing."""
    warnings = logging.StreamHandler()
    warnings.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("secateur").addHandler(warnings)
    plan = session().plan(validate(job["config"]), job["sources"])
    found = plan.cell(**job["axes"]).fingerprint
    if found != job["fingerprint"]:
        return f"its process understands the cell otherwise: {found}, not {job['fingerprint']}"
    state = run_cell(config=plan.config, **job["axes"], return_state=True)
    return "" if state.is_completed() else reason_of(state)
