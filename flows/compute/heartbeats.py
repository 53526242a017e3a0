"""Dead runs are told by Prefect's heartbeats: silent for long enough, and a run is Crashed.

https://docs.prefect.io/v3/advanced/detect-zombie-flows. The automation heeds only runs with our
tag: those of others may beat more slowly.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

TAG = "secateur"
"""Of every flow run that beats."""
BEATING = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
"""Environment of a process whose flow runs beat; Prefect beats no faster."""
SILENT_SECONDS = 90
_NAME = "secateur: silent runs have crashed"


def watch_heartbeats(client: SyncPrefectClient) -> None:
    """Make sure that the server calls runs dead that have been silent."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    if client.read_automations_by_name(_NAME):
        return
    crash: Any = ChangeFlowRunState(
        name=None,
        state=StateType.CRASHED,
        message=f"no sign of life for {SILENT_SECONDS} s",
        force=False,  # a run that has ended stays as it is
    )
    client.create_automation(
        AutomationCore(
            name=_NAME,
            description="Sweeps send the cells of such runs again.",
            trigger=EventTrigger(
                posture=Posture.Proactive,
                match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
                match_related=ResourceSpecification(
                    {
                        "prefect.resource.role": ["tag"],
                        "prefect.resource.id": [f"prefect.tag.{TAG}"],
                    }
                ),
                # Running too: a process can die before its first beat is sent.
                after={"prefect.flow-run.heartbeat", "prefect.flow-run.Running"},
                # Any, since a final state may have any name.
                expect={"prefect.flow-run.*"},
                for_each={"prefect.resource.id"},
                threshold=1,
                within=timedelta(seconds=SILENT_SECONDS),
            ),
            actions=[crash],
        )
    )
