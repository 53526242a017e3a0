"""A form's sweep that waits for another of its name gives its worker's place back meanwhile.

Prefect's own limit of a deployment counts its runs, whatever sweep they are of, so it does not help
here. As it does with runs over such a limit, the run is scheduled again, a moment later; a label
says for which name it waits, and the worker starts nothing for it until that is free.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NoReturn
from uuid import UUID

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import ObjectNotFound, Pause
from prefect.states import Scheduled

from flows.compute.overlap import held

_WAITS_FOR = "secateur.waits-for"
_SECONDS = 15


def _waiting(message: str | None) -> State:
    later = datetime.now(UTC) + timedelta(seconds=_SECONDS)
    return Scheduled(name="Waiting", message=message, scheduled_time=later)


def give_place_back(run: UUID, name: str, reason: str) -> NoReturn:
    """End this process of a run, which begins again when the sweep's name is free.

    Raises:
        Pause: always; Prefect's engine ends with it.
    """
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(run).state
        if state is None or not (state.is_cancelling() or state.is_final()):
            client.update_flow_run_labels(run, {_WAITS_FOR: name})
            state = client.set_flow_run_state(run, _waiting(reason), force=True).state
    raise Pause(state=state)


async def waits(client: PrefectClient, run: FlowRun) -> bool:
    """Whether a run that is due is not to begin.

    It waits, and its time is then put off; or somebody cancelled or deleted it since the worker
    asked.
    """
    name = run.labels.get(_WAITS_FOR)
    if name is None or not held(str(name)):
        return False
    try:
        state = (await client.read_flow_run(run.id)).state
    except ObjectNotFound:
        return True
    if state is not None and state.is_scheduled():
        await client.set_flow_run_state(run.id, _waiting(state.message), force=True)
    return True
