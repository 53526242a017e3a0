"""The worker of secateur's pools: it runs what secateur registered, and nothing else.

    python -m flows.serve.worker --pool secateur

Prefect's own process worker takes a run's command, environment and folder from the pool's template
and from job variables, and its code from the deployment's entrypoint and pull steps: whoever
reaches the API can change all of them. This one reads which of its flows a deployment names, and
takes the rest from itself: Prefect's engine, that flow of the installed package, this process's
environment, an empty folder. Whatever else a run asks for is refused, and the run's state says so.
"""

from __future__ import annotations

import abc
import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
from typing import Any, Self
from uuid import UUID

import anyio
import anyio.abc
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, WorkPool
from prefect.client.schemas.responses import DeploymentResponse, WorkerFlowRunResponse
from prefect.logging.configuration import setup_logging
from prefect.runner._flow_run_executor import FlowRunExecutorContext
from prefect.runner._starter_engine import EngineCommandStarter
from prefect.utilities.processutils import command_to_string, setup_signal_handlers_worker
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult
from pydantic import PrivateAttr

from flows.compute.heartbeats import BEATING
from flows.serve.registration import CELL, FORMS, POOL
from flows.serve.waiting import waits


class RefusedError(RuntimeError):
    """A run that asks for something else than what secateur registered."""


def entrypoint_of(pool: str, flow_run: FlowRun, deployment: DeploymentResponse | None) -> str:
    """The flow that a run is of, as ``module.name``: one that this pool is for.

    Raises:
        RefusedError: it is another, or the run brings job variables.
    """
    known = tuple(FORMS.values()) if pool == POOL else (CELL,)
    named = deployment.entrypoint if deployment else None
    if deployment is None or named is None or named not in known:
        raise RefusedError(
            f"entrypoint: {named!r} is nothing that secateur registered for the pool {pool}; "
            f"its worker runs {' and '.join(known)} only"
        )
    if asked := {*(deployment.job_variables or ()), *(flow_run.job_variables or ())}:
        raise RefusedError(
            f"job variables: {', '.join(sorted(asked))}: a run takes its command, environment and "
            "folder from the worker alone; what they should be is set where the worker is started"
        )
    return named


class Job(ProcessJobConfiguration):
    """How a run is started; nothing of it comes from the API but which flow it is."""

    _entrypoint: str = PrivateAttr(default="")

    @classmethod
    async def resolve_for_flow_run(
        cls,
        flow_run: FlowRun,
        *,
        client: PrefectClient,
        work_pool: WorkPool,
        worker_name: str,
        worker_id: UUID | None = None,
        deployment: DeploymentResponse | None = None,
    ) -> Self:
        """The job of a run, without the pool's template.

        Raises:
            RefusedError: see ``entrypoint_of``.
        """
        if flow_run.deployment_id:
            deployment = await client.read_deployment(flow_run.deployment_id)
        entrypoint = entrypoint_of(work_pool.name, flow_run, deployment)
        job = cls(env={**BEATING})
        job.prepare_for_flow_run(
            flow_run=flow_run,
            work_pool=work_pool,
            worker_name=worker_name,
            worker_id=worker_id,
        )
        job._entrypoint = entrypoint
        return job


class _NoHooks:
    """No flow of ours has hooks; to look for some, Prefect would load what the deployment names."""

    async def run_cancellation_hooks(self, flow_run: FlowRun, state: State) -> None: ...

    async def run_crashed_hooks(self, flow_run: FlowRun, state: State) -> None: ...


# An abstract base keeps Prefect from entering it in its list of workers, in place of its own.
class Worker(ProcessWorker, abc.ABC):
    """Prefect's process worker, but for what it starts."""

    job_configuration = Job

    async def _get_scheduled_flow_runs(self) -> list[WorkerFlowRunResponse]:
        """Those that are due, without sweeps that wait for another of their name."""
        found = await super()._get_scheduled_flow_runs()
        return [entry for entry in found if not await waits(self.client, entry.flow_run)]

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Start Prefect's engine for the run, and wait for its end."""
        assert isinstance(configuration, Job)
        with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
            async with FlowRunExecutorContext() as context:
                starter = EngineCommandStarter(
                    command=command_to_string([sys.executable, "-m", "flows.serve.engine"]),
                    entrypoint=configuration._entrypoint,
                    cwd=folder,
                    env=configuration.env,
                    stream_output=configuration.stream_output,
                    control_channel=context.control_channel,
                )
                executor = context.create_executor(
                    flow_run, starter, propose_submitting=False, hook_runner=_NoHooks()
                )
                ended: Any = None

                async def execute(*, task_status: anyio.abc.TaskStatus[Any]) -> None:
                    nonlocal ended
                    ended = await executor.submit(task_status=task_status)

                async with anyio.create_task_group() as group:
                    handle = await group.start(execute)
                    if task_status:
                        task_status.started(handle.pid)
        if ended is None or ended.status_code is None:
            raise RuntimeError("the run's process did not start")
        return ProcessWorkerResult(status_code=ended.status_code, identifier=str(ended.handle.pid))


async def serve(given: argparse.Namespace) -> None:
    """Take runs of a pool until a signal comes; those at work are ended."""
    # Here, since Prefect hands the signal on to asyncio, which has its own handler by now.
    setup_signal_handlers_worker(os.getpid(), "the worker", print)
    # A run that is not due yet would hold a place until it is.
    worker = Worker(
        work_pool_name=given.pool, name=given.name, limit=given.limit, prefetch_seconds=0
    )
    with contextlib.suppress(asyncio.CancelledError):
        await worker.start(with_healthcheck=given.with_healthcheck)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m flows.serve.worker")
    parser.add_argument("--pool", required=True, help=f"{POOL}: forms; any other: cells")
    parser.add_argument("--limit", type=int, default=None, help="how many runs at once")
    parser.add_argument("--name", default=None, help="of the worker, in Prefect's page")
    parser.add_argument("--with-healthcheck", action="store_true", help="answer on port 8080")
    setup_logging()
    asyncio.run(serve(parser.parse_args()))
