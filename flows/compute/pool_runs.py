"""A sweep's cell runs at Prefect's API: the deployment, sending, states, cancelling."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from uuid import UUID

from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed
from prefect.utilities.callables import parameter_schema

from configs.errors import ConfigurationError
from flows.compute.heartbeats import TAG, watch_heartbeats
from flows.compute.pool_cell import run_pool_cell
from flows.serve.registration import CELL, POOL
from tasks.plan.plan import Cell, Plan
from tasks.plan.sources import to_json
from tasks.runtime.links import redacted
from tasks.store.home import home

_FIELD = "--work-pool"
_BATCH = 100
_PATIENCE_SECONDS = 22.0
"""Prefect gives a process that it cancels 30 s; all of this must fit."""


def check_pool(pool: str) -> None:
    """Make sure that cells can be sent to ``pool``.

    Raises:
        ConfigurationError: there is no server, no such pool, or it is the one of the forms.
    """
    if pool == POOL:
        raise ConfigurationError(
            _FIELD,
            pool,
            "its worker runs what the forms start, and no cells",
            "Make another: prefect work-pool create cells --type process",
        )
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
            client.read_work_pool(pool)
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
            "PREFECT_API_URL", redacted(url), f"no Prefect server answers there: {error}"
        ) from error


class PoolRuns:
    """The runs of one sweep's cells in one pool."""

    def __init__(self, plan: Plan, pool: str, sweep: UUID) -> None:
        self.pool = pool
        self.sweep = sweep
        self._begun = datetime.now(UTC)
        self._config = plan.config.model_dump(mode="json")
        self._sources = to_json(plan.sources, home())
        self._name = plan.config.name

    def __enter__(self) -> Self:
        self._stack = contextlib.ExitStack()
        self._client = self._stack.enter_context(get_client(sync_client=True))
        self._deployment = deploy_cell(self.pool)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

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
            tags=[TAG, f"sweep:{self._name}"],
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

    def give_up(self, run: UUID, reason: str) -> None:
        """Call a run dead; should it live all the same, it ends itself when it learns of that."""
        with contextlib.suppress(Exception):
            self._client.set_flow_run_state(run, Crashed(message=reason), force=True)

    def cancel(self, runs: Sequence[UUID]) -> None:
        """End runs wherever they are, and return when they have ended.

        Their workers end them, or they themselves where those are gone.
        """
        for run in runs:
            with contextlib.suppress(Exception):
                self._client.set_flow_run_state(run, State(type=StateType.CANCELLING))
        left, begun = set(runs), time.monotonic()
        while left and time.monotonic() - begun < _PATIENCE_SECONDS:
            states = self.states([*left])
            left -= {run for run, state in states.items() if state.is_final()}
            time.sleep(0.5)
        for run in left:
            gone = Cancelled(message="the sweep was cancelled")
            self._client.set_flow_run_state(run, gone, force=True)


def deploy_cell(pool: str) -> UUID:
    """Make or refresh the deployment ``cell/POOL``, whose runs are a sweep's cells."""
    with get_client(sync_client=True) as client:
        watch_heartbeats(client)
        return client.create_deployment(
            flow_id=client.create_flow(run_pool_cell),
            name=pool,
            work_pool_name=pool,
            entrypoint=CELL,
            description="One cell of a sweep; sweeps send these runs.",
            parameter_openapi_schema=parameter_schema(run_pool_cell).model_dump_for_openapi(),
            # What a sweep sends was validated; the cell validates it again.
            enforce_parameter_schema=False,
        )
