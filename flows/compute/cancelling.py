"""Who ends a sweep's work: whoever cancels it in the UI or with `prefect flow-run cancel`.

A runner or a worker passes that on as a signal. A sweep that was started on the command line has
neither, and asks Prefect itself. So does a cell in a pool, whose worker or sweep may be gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Cancelled

_POLL_SECONDS = 5.0
_POLITE_SECONDS = 8.0
"""How long a worker has to end its cell before the cell ends itself."""
_GRACE_SECONDS = 5.0


class SweepCancelledError(RuntimeError):
    """The sweep's flow run is being cancelled."""


def current_run() -> UUID | None:
    """Id of the flow run that this code is in."""
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


def _state(run: UUID) -> State | None:
    """The state of a run; None where the server does not say."""
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:
        return client.read_flow_run(run).state
    return None


def raise_if_cancelled() -> None:
    """Raise when this flow run is being cancelled; a server that does not answer says nothing.

    Raises:
        SweepCancelledError: it is.
    """
    run = current_run()
    state = _state(run) if run else None
    if state and (state.is_cancelling() or state.is_cancelled()):
        raise SweepCancelledError("the sweep was cancelled")


def over(run: UUID) -> bool:
    """Whether a run has ended or is to end."""
    state = _state(run)
    return bool(state and (state.is_final() or state.is_cancelling()))


@contextlib.contextmanager
def ending_with(sweep: UUID) -> Iterator[None]:
    """End this process, should its sweep end first, or its own run be called dead or cancelled."""
    run = current_run()
    assert run is not None, "a cell of a pool is a flow run"
    done = threading.Event()

    def watch() -> None:
        while not over(run) and not over(sweep):
            if done.wait(_POLL_SECONDS):
                return
        if done.wait(_POLITE_SECONDS):
            return
        if not over(run):
            with contextlib.suppress(Exception), get_client(sync_client=True) as client:
                gone = Cancelled(message="its sweep has ended")
                client.set_flow_run_state(run, gone, force=True)
        os.kill(os.getpid(), signal.SIGTERM)
        if not done.wait(_GRACE_SECONDS):
            os.kill(os.getpid(), signal.SIGKILL)  # what it has started ends with it

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
