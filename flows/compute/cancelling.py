"""Whether someone has asked, in the UI or with `prefect flow-run cancel`, to end this sweep.

A runner or a worker passes that on as a signal. A sweep that was started on the command line has
neither, and asks Prefect itself.
"""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext


class SweepCancelledError(RuntimeError):
    """The sweep's flow run is being cancelled."""


def current_run() -> UUID | None:
    """Id of the flow run that this code is in."""
    context = FlowRunContext.get()
    return context.flow_run.id if context and context.flow_run else None


def raise_if_cancelled() -> None:
    """Raise when this flow run is being cancelled; a server that does not answer says nothing.

    Raises:
        SweepCancelledError: it is.
    """
    run = current_run()
    if run is None:
        return
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(run).state
    except Exception:  # noqa: BLE001 (an outage is no cancellation)
        return
    if state and (state.is_cancelling() or state.is_cancelled()):
        raise SweepCancelledError("the sweep was cancelled")
