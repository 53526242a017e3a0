"""A sweep's cell runs at Prefect's API: the deployment, sending, states, cancelling."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed
from prefect.utilities.callables import parameter_schema

from configs.errors import ConfigurationError
from flows.compute.pool_cell import run_pool_cell
from flows.compute.pulse import Pulse, silence_seconds, stop
from tasks.plan.plan import Cell, Plan
from tasks.plan.sources import to_json
from tasks.store.home import home

ENTRYPOINT = "flows.compute.pool_cell.run_pool_cell"
"""A module, and no file: each worker runs the package that is installed beside it."""
_FIELD = "--work-pool"
_BATCH = 100
_POLITE_SECONDS = 8.0
"""How long workers have to end cancelled cells before the cells are told by their pulse."""
_PATIENCE_SECONDS = 22.0
"""Prefect gives a process that it cancels 30 s; all of this must fit."""


def pulses() -> Path:
    return home() / "pulses"


@contextlib.contextmanager
def mark_of(sweep: UUID) -> Iterator[None]:
    """A file by which a worker knows that its home is the sweep's."""
    path = pulses() / f"{sweep}.sweep"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def check_pool(pool: str) -> None:
    """Make sure that cells can be sent to ``pool``.

    Raises:
        ConfigurationError: there is no server, no such pool, or it has another type.
    """
    try:
        silence_seconds()
    except ValueError as error:
        name, given = "SECATEUR_SILENCE_SECONDS", os.environ.get("SECATEUR_SILENCE_SECONDS")
        raise ConfigurationError(name, given, str(error).partition("; ")[2]) from error
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        raise ConfigurationError(
            _FIELD,
            pool,
            "it needs a Prefect server that the workers reach as well: set PREFECT_API_URL",
            "Such as http://HOST:4200/api, where `prefect server start` or `secateur up` runs",
        )
    try:
        with get_client(sync_client=True) as client:
            found = client.read_work_pool(pool)
    except ObjectNotFound:
        with get_client(sync_client=True) as client:
            pools = client.read_work_pools(limit=_BATCH)
        raise ConfigurationError(
            _FIELD,
            pool,
            f"there is no such work pool; there are: {', '.join(p.name for p in pools) or 'none'}",
            f"Make it: prefect work-pool create {pool} --type process",
        ) from None
    except (HTTPError, OSError) as error:
        raise ConfigurationError(
            "PREFECT_API_URL", url.rpartition("@")[2], f"no Prefect server answers there: {error}"
        ) from error
    if found.type != "process":
        raise ConfigurationError(
            _FIELD, pool, f"it must be a pool of type process, and is of type {found.type}"
        )


class PoolRuns:
    """The runs of one sweep's cells in one pool."""

    def __init__(self, plan: Plan, pool: str, sweep: UUID) -> None:
        self.pool = pool
        self.sweep = sweep
        self._begun = datetime.now(UTC)
        self._config = plan.config.model_dump(mode="json")
        texts = [windows for model in plan.models for windows in plan.windows(model)]
        self._sources = to_json([m.model for m in plan.models], texts, home())
        self._name = plan.config.name

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        self._client = self._stack.enter_context(get_client(sync_client=True))
        self._deployment = deploy_cell(self.pool)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def pulse_path(self, run: UUID) -> Path:
        return pulses() / f"{run}.beat"

    def send(self, cell: Cell, attempt: int) -> UUID:
        """Schedule a cell's run, once for each attempt of this sweep's run."""
        again = f" · attempt {attempt}" if attempt > 1 else ""
        parameters: dict[str, Any] = {
            "config": self._config,
            **cell.axes,
            "fingerprint": cell.fingerprint,
            "sources": self._sources,
            "sweep": str(self.sweep),
        }
        run: Any = run_deployment(
            self._deployment,
            parameters=parameters,
            timeout=0,
            # Workers take the earliest first: what was begun once goes before what was not.
            scheduled_time=self._begun - (attempt - 1) * timedelta(minutes=1),
            flow_run_name=f"{cell.label} · {cell.model.spec} · seed {cell.seed}{again}",
            tags=[f"sweep:{self._name}"],
            idempotency_key=f"{self.sweep}:{cell.fingerprint}:{attempt}",
        )
        return run.id

    def states(self, runs: Sequence[UUID]) -> dict[UUID, State]:
        """The state of each run, and of the sweep's own."""
        wanted = [self.sweep, *runs]
        found: dict[UUID, State] = {}
        for at in range(0, len(wanted), _BATCH):
            some = FlowRunFilter(id=FlowRunFilterId(any_=wanted[at : at + _BATCH]))
            batch = self._client.read_flow_runs(
                flow_run_filter=some, limit=_BATCH, sort=FlowRunSort.ID_DESC
            )
            for run in batch:
                if run.state:
                    found[run.id] = run.state
        return found

    def abandon(self, run: UUID, pulse: Pulse, reason: str) -> None:
        """Call a run dead; should it only be cut off, it ends itself once it is not."""
        stop(pulse.path)
        with contextlib.suppress(Exception):
            self._client.set_flow_run_state(run, Crashed(message=reason), force=True)

    def cancel(self, open_runs: Sequence[tuple[UUID, Pulse]]) -> None:
        """End runs wherever they are, and return when they have ended."""
        left = dict(open_runs)
        for run in left:
            with contextlib.suppress(Exception):
                self._client.set_flow_run_state(run, State(type=StateType.CANCELLING))
        begun = time.monotonic()
        told = False
        while left:
            states = self.states([*left])
            for run in [run for run in left if run in states and states[run].is_final()]:
                left.pop(run).forget()
            waited = time.monotonic() - begun
            if left and waited > _POLITE_SECONDS and not told:
                # A worker that is gone ends nothing; the cell's own pulse does.
                told = True
                for pulse in left.values():
                    stop(pulse.path)
            if waited > _PATIENCE_SECONDS:
                break
            time.sleep(0.5)
        for run in left:
            gone = State(type=StateType.CANCELLED, message="the sweep was cancelled")
            self._client.set_flow_run_state(run, gone, force=True)


def deploy_cell(pool: str) -> UUID:
    """Make or refresh the deployment ``cell/POOL``, whose runs are a sweep's cells."""
    with get_client(sync_client=True) as client:
        return client.create_deployment(
            flow_id=client.create_flow(run_pool_cell),
            name=pool,
            work_pool_name=pool,
            entrypoint=ENTRYPOINT,
            # Said, since a deployment without any gets this machine's folder.
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": "."}}],
            description="One cell of a sweep; sweeps send these runs.",
            parameter_openapi_schema=parameter_schema(run_pool_cell).model_dump_for_openapi(),
            # What a sweep sends was validated; the cell validates it again.
            enforce_parameter_schema=False,
        )
