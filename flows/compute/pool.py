"""Sends the cells of a sweep to a Prefect work pool and watches them to their end.

Each cell is a run of the ``cell`` deployment; any number of workers take them. A run that Prefect
calls crashed, since its process or its heartbeats have ended, is taken up again as a new run: a
retry of the same one kills a worker with ``--limit 1``. The store makes sure that what was computed
is not computed twice.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from httpx import HTTPError, HTTPStatusError
from prefect.client.schemas.objects import State

from flows.compute.cancelling import SweepCancelledError, current_run
from flows.compute.here import Ended, Note, Piece
from flows.compute.pool_runs import PoolRuns
from tasks.plan.plan import Cell, Plan
from tasks.steps.run import is_complete
from tasks.steps.session import session

log = logging.getLogger("secateur.pool")

ATTEMPTS = 3
"""So often a cell's process may die before the cell counts as failed."""
_POLL_SECONDS = 2.0
_PENDING_SECONDS = 120.0
"""How long a worker may take to start a cell's process: it beats only from then on."""
_LAG_SECONDS = 60.0
"""How long a shared folder may hide what another machine wrote."""
_OUTAGE_SECONDS = 600.0
_NOBODY_SECONDS = 30.0


@dataclass
class Submission:
    """A cell in the pool, in its latest attempt."""

    cell: Cell
    run: UUID
    attempt: int = 1
    state: State | None = None
    piece: Piece | None = None
    cancelling: bool = False
    _pending_since: float = 0.0
    _ended_at: float = 0.0

    def update(self, state: State | None) -> None:
        """Take note of what Prefect says now."""
        self.state = state
        if state is None or state.is_scheduled():
            return
        self.piece = self.piece or Piece(self.cell)
        self.cancelling |= state.is_cancelling()
        self._pending_since = self._pending_since or time.monotonic()
        if state.is_final():
            self._ended_at = self._ended_at or time.monotonic()

    @property
    def seconds_since_end(self) -> float:
        return time.monotonic() - self._ended_at if self._ended_at else 0.0

    def death(self) -> str:
        """How the run's process died; empty while it may be alive."""
        if self.state and self.state.is_crashed():
            return self.state.message or "its process ended without a result"
        if self.state and self.state.is_pending():
            waited = time.monotonic() - self._pending_since
            return f"it has not begun within {waited:.0f} s" if waited > _PENDING_SECONDS else ""
        return ""


@dataclass
class _Pool:
    """A sweep's cells in a work pool."""

    plan: Plan
    runs: PoolRuns
    note: Note
    open: dict[UUID, Submission] = field(default_factory=dict)
    _answered: float = field(default_factory=time.monotonic)
    _idle_since: float = field(default_factory=time.monotonic)
    _complained: bool = False
    _outage: bool = False

    def send(self, cell: Cell, attempt: int, piece: Piece | None = None) -> None:
        run = self.runs.send(cell, attempt)
        self.open[run] = Submission(cell, run, attempt, piece=piece)

    def watch(self) -> Iterator[Ended]:
        """Look at every cell once, and tell those that ended."""
        states = self._states()
        for sent in list(self.open.values()):
            sent.update(states.get(sent.run, sent.state))
            if reason := sent.death():
                yield from self._again(sent, reason)
            elif sent.state and sent.state.is_final():
                yield from self._ended(sent)
        self._complain_when_idle()

    def _states(self) -> dict[UUID, State]:
        try:
            states = self.runs.states([*self.open])
        except HTTPError as error:
            refused = isinstance(error, HTTPStatusError) and error.response.status_code < 500
            if refused or time.monotonic() - self._answered > _OUTAGE_SECONDS:
                raise
            if not self._outage:
                log.warning("Prefect does not answer (%s); the cells go on", error)
            self._outage = True
            return {}
        self._answered, self._outage = time.monotonic(), False
        own = states.pop(self.runs.sweep, None)
        if own and (own.is_cancelling() or own.is_cancelled()):
            raise SweepCancelledError("the sweep was cancelled")
        return states

    def _ended(self, sent: Submission) -> Iterator[Ended]:
        state = sent.state
        assert state is not None
        if state.is_completed():
            context = session().context(self.plan.config)
            if not is_complete(sent.cell.goals, context):
                if sent.seconds_since_end < _LAG_SECONDS:
                    return
                error = (
                    "its worker reports it as completed, and the store here does not hold it: "
                    "SECATEUR_HOME must name the same shared folder everywhere"
                )
            else:
                error = ""
        elif state.is_cancelled():
            error = "its run was cancelled in Prefect"
        else:
            error = state.message or "its run failed"
        yield self._close(sent, error)

    def _again(self, sent: Submission, reason: str) -> Iterator[Ended]:
        """Send a cell whose process died once more, unless that has happened too often."""
        if not (sent.state and sent.state.is_final()):
            self.runs.give_up(sent.run, reason)
        if sent.cancelling:
            yield self._close(sent, f"its run was cancelled in Prefect; {reason}")
            return
        if sent.attempt >= ATTEMPTS:
            yield self._close(sent, f"its process died {sent.attempt} times; the last: {reason}")
            return
        log.warning("%s: %s; it is taken up again", sent.cell.label, reason)
        del self.open[sent.run]
        self.send(sent.cell, sent.attempt + 1, sent.piece)

    def _close(self, sent: Submission, error: str) -> Ended:
        del self.open[sent.run]
        return (sent.piece or Piece(sent.cell)).end(error, self.note)

    def _complain_when_idle(self) -> None:
        """Say once what is missing when cells wait and nobody takes any."""
        if any(sent.piece for sent in self.open.values()) or not self.open:
            self._idle_since = time.monotonic()
        elif not self._complained and time.monotonic() - self._idle_since > _NOBODY_SECONDS:
            self._complained = True
            name = self.runs.pool
            log.warning(
                "%d cells wait, and no worker takes any; start one on each machine: "
                "python -m flows.serve.worker --pool %s",
                len(self.open),
                name,
            )


def run_in_pool(
    plan: Plan, cells: Sequence[Cell], note: Note, pool: str
) -> Generator[Ended, None, None]:
    """Compute cells in a work pool, and tell as each ends; when this stops early, they stop.

    Raises:
        SweepCancelledError: someone cancels the sweep's flow run.
    """
    sweep = current_run()
    assert sweep is not None, "cells are sent by a sweep's flow run"
    if not cells:
        return
    with PoolRuns(plan, pool, sweep) as runs:
        state = _Pool(plan, runs, note)
        try:
            for cell in cells:
                state.send(cell, 1)
            while state.open:
                yield from state.watch()
                if state.open:
                    time.sleep(_POLL_SECONDS)
        finally:
            with contextlib.suppress(Exception):
                runs.cancel([*state.open])
