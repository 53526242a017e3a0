"""Puts the deployments on a Prefect server."""

from __future__ import annotations

import contextlib
from typing import Any

POOL = "secateur"
"""The work pool of sweeps. Cells that go to a pool need another one: a sweep waits for its cells,
and would keep the place that they need."""
FORMS = {"sweep": "flows.deployments.sweep_form", "preset": "flows.deployments.preset_form"}
"""Deployment → its flow, as a module and no file: each worker runs the package beside it."""
CELL = "flows.compute.pool_cell.run_pool_cell"
"""The flow of the deployments ``cell/POOL``."""


def register(pool: str = POOL) -> dict[str, str]:
    """Make or renew the deployments ``sweep`` and ``preset`` on the server of PREFECT_API_URL.

    Schedules that someone added stay.

    Returns:
        Deployment name → id.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    from flows.compute.heartbeats import TAG
    from flows.deployments import preset_form, sweep_form
    from flows.serve.forms import REQUIRED, SHOWN, page

    pages = (
        (sweep_form, SHOWN[""], REQUIRED),
        (preset_form, ("preset", "settings"), ("preset",)),
    )
    made: dict[str, str] = {}
    with get_client(sync_client=True) as client:
        with contextlib.suppress(ObjectAlreadyExists):
            client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        for name, (form, shown, required) in zip(FORMS, pages, strict=True):
            schema = form.parameters.model_dump_for_openapi()
            made[name] = str(
                client.create_deployment(
                    flow_id=client.create_flow_from_name(name),
                    name=name,
                    description=(form.fn.__doc__ or "").partition("Args:")[0].strip(),
                    entrypoint=FORMS[name],
                    work_pool_name=pool,
                    tags=[TAG],
                    schedules=_schedules(client, name),
                    # A misspelt field is refused in the form, not when the run starts.
                    parameter_openapi_schema=page(schema, shown, required),
                    parameters={name: schema["properties"][name]["default"] for name in required},
                    enforce_parameter_schema=True,
                )
            )
    return made


def _schedules(client: Any, name: str) -> list[Any]:
    """The schedules that the deployment has: making it again would remove them."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.exceptions import ObjectNotFound

    try:
        former = client.read_deployment_by_name(f"{name}/{name}")
    except ObjectNotFound:
        return []
    return [
        DeploymentScheduleCreate(
            schedule=entry.schedule,
            active=entry.active,
            parameters=entry.parameters,
            slug=entry.slug,
        )
        for entry in former.schedules
    ]


if __name__ == "__main__":  # docker/compose.yaml's service `deploy`
    register()
