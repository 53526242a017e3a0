"""Sends the cells of a sweep to a Prefect work pool and watches them to their end.

Each cell is a run of the ``cell`` deployment; any number of workers take them. A run whose process
dies, with or without its machine, is taken up again as a new run: the cell's pulse in the shared
home tells, and the store makes sure that what was computed is not computed twice.
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
from flows.compute.pool_runs import PoolRuns, mark_of
from flows.compute.pulse import Pulse, silence_seconds
from tasks.plan.plan import Cell, Plan
from tasks.steps.run import is_complete
from tasks.steps.session import session

log = logging.getLogger("secateur.pool")

ATTEMPTS = 3
"""So often a cell's process may die before the cell counts as failed."""
_POLL_SECONDS = 2.0
_SETTLE_SECONDS = 15.0
"""How long Prefect may take to learn what the pulse has told."""
_LAG_SECONDS = 60.0
"""How long a shared folder may hide what another machine wrote."""
_OUTAGE_SECONDS = 600.0
_NOBODY_SECONDS = 30.0


@dataclass
class Sent:
    """A cell in the pool, in its latest attempt."""

    cell: Cell
    run: UUID
    pulse: Pulse
    attempt: int = 1
    state: State | None = None
    piece: Piece | None = None
    _since: float = 0.0
    _ended_at: float = 0.0

    def update(self, state: State | None) -> None:
        """Take note of what Prefect and the pulse say now."""
        taken = bool(state and not state.is_scheduled())
        if taken and not self._since:
            self._since = time.monotonic()
        if taken and self.piece is None:
            self.piece = Piece(self.cell)
        if state and state.is_final() and not self._ended_at:
            self._ended_at = time.monotonic()
        self.state = state
        if taken:
            self.pulse.look()

    @property
    def seconds_since_end(self) -> float:
        return time.monotonic() - self._ended_at if self._ended_at else 0.0

    def death(self, silence: float) -> str:
        """How the run's process died; empty while it may be alive."""
        if self.state is None or self.state.is_scheduled():
            return ""
        if self.state.is_crashed():
            return self.state.message or "its process ended without a result"
        if self.state.is_final():
            return ""
        if self.pulse.ended and self.pulse.silent_seconds > _SETTLE_SECONDS:
            return f"its process {self.pulse.where} is gone"
        if self.pulse.begun:
            quiet = self.pulse.silent_seconds
            where = self.pulse.where
            return f"no sign of life from {where} for {quiet:.0f} s" if quiet > silence else ""
        waited = time.monotonic() - self._since
        # Before the first beat a process loads its libraries.
        return f"it has not begun within {waited:.0f} s" if waited > 2 * silence else ""


@dataclass
class _Pool:
    """A sweep's cells in a work pool."""

    plan: Plan
    runs: PoolRuns
    note: Note
    silence: float
    open: dict[UUID, Sent] = field(default_factory=dict)
    _answered: float = field(default_factory=time.monotonic)
    _idle_since: float = field(default_factory=time.monotonic)
    _complained: bool = False
    _outage: bool = False

    def send(self, cell: Cell, attempt: int, piece: Piece | None = None) -> None:
        run = self.runs.send(cell, attempt)
        pulse = Pulse(self.runs.pulse_path(run))
        self.open[run] = Sent(cell, run, pulse, attempt, piece=piece)

    def watch(self) -> Iterator[Ended]:
        """Look at every cell once, and tell those that ended."""
        states = self._states()
        for sent in list(self.open.values()):
            sent.update(states.get(sent.run, sent.state))
            if reason := sent.death(self.silence):
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

    def _ended(self, sent: Sent) -> Iterator[Ended]:
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

    def _again(self, sent: Sent, reason: str) -> Iterator[Ended]:
        """Send a cell whose process died once more, unless that has happened too often."""
        # Should it be only cut off, it ends itself when it sees this.
        cancelling = bool(sent.state and sent.state.is_cancelling())
        self.runs.abandon(sent.run, sent.pulse, reason)
        if cancelling:
            yield self._close(sent, f"its run was cancelled in Prefect; {reason}")
            return
        if sent.attempt >= ATTEMPTS:
            yield self._close(sent, f"its process died {sent.attempt} times; the last: {reason}")
            return
        log.warning("%s: %s; it is taken up again", sent.cell.label, reason)
        del self.open[sent.run]
        self.send(sent.cell, sent.attempt + 1, sent.piece)

    def _close(self, sent: Sent, error: str) -> Ended:
        del self.open[sent.run]
        sent.pulse.forget()
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
                "prefect worker start --pool %s --type process",
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
    with PoolRuns(plan, pool, sweep) as runs, mark_of(sweep):
        state = _Pool(plan, runs, note, silence_seconds())
        try:
            for cell in cells:
                state.send(cell, 1)
            while state.open:
                yield from state.watch()
                if state.open:
                    time.sleep(_POLL_SECONDS)
        finally:
            with contextlib.suppress(Exception):
                runs.cancel([(sent.run, sent.pulse) for sent in state.open.values()])
