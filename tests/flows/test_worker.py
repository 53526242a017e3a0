"""Which runs the worker takes, and what it starts for them."""

from __future__ import annotations

import os
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.flows import load_flow_from_entrypoint

from configs.yaml_file import validate
from flows.compute.pool_cell import _not_trusted
from flows.serve.access import ALLOW_TRUST
from flows.serve.registration import CELL, FORMS, POOL
from flows.serve.standing import PUBLISHED, asked
from flows.serve.worker import Job, RefusedError, entrypoint_of


def run(**fields: Any) -> FlowRun:
    return FlowRun(flow_id=uuid4(), deployment_id=uuid4(), **fields)


def deployment(entrypoint: str | None, **fields: Any) -> DeploymentResponse:
    return DeploymentResponse(name="any", flow_id=uuid4(), entrypoint=entrypoint, **fields)


@pytest.mark.parametrize(
    ("pool", "entrypoint"), [(POOL, e) for e in FORMS.values()] + [("c", CELL)]
)
def test_what_is_registered_is_a_flow_and_runs_in_its_pool(pool: str, entrypoint: str) -> None:
    assert entrypoint_of(pool, run(), deployment(entrypoint)) == entrypoint
    assert load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)


@pytest.mark.parametrize(
    ("pool", "entrypoint"),
    [
        (POOL, CELL),  # a cell is not restricted to the data folder
        ("cells", FORMS["sweep"]),
        (POOL, "os.system"),
        (POOL, "flows/deployments.py:sweep_form"),
        (POOL, f"{FORMS['sweep']} "),
        (POOL, ""),
        (POOL, None),
    ],
)
def test_other_entrypoints_are_refused(pool: str, entrypoint: str | None) -> None:
    with pytest.raises(RefusedError, match="nothing that secateur registered"):
        entrypoint_of(pool, run(), deployment(entrypoint))


def test_a_run_without_a_deployment_is_refused() -> None:
    with pytest.raises(RefusedError, match="entrypoint: None"):
        entrypoint_of(POOL, run(), None)


def test_job_variables_are_refused_by_name() -> None:
    form = FORMS["sweep"]
    with pytest.raises(RefusedError, match="job variables: command, env: "):
        entrypoint_of(
            POOL, run(job_variables={"env": {}}), deployment(form, job_variables={"command": "x"})
        )


async def _job(monkeypatch: pytest.MonkeyPatch, pulled: list[dict[str, Any]]) -> Job:
    from prefect.client.schemas.objects import WorkPool

    class Client:
        async def read_deployment(self, _id: object) -> DeploymentResponse:
            return deployment(FORMS["sweep"], pull_steps=pulled)

    monkeypatch.setenv("SECATEUR_DATA", "/the/operators")
    template = {"job_configuration": {"command": "evil", "env": {"SECATEUR_DATA": "/"}}}
    pool = WorkPool(name=POOL, type="process", base_job_template=template)
    client: Any = Client()
    return await Job.resolve_for_flow_run(
        run(), client=client, work_pool=pool, worker_name="worker"
    )


def test_a_job_is_made_without_the_pools_template(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    job = asyncio.run(_job(monkeypatch, [{"evil": {}}]))
    assert job._entrypoint == FORMS["sweep"]
    assert "evil" not in str(job.command)
    assert job.env["SECATEUR_DATA"] == "/the/operators"
    assert job.working_dir is None
    assert job.env.keys() >= os.environ.keys()


@pytest.mark.parametrize("trust", [{"remote_code": True}, {"pickle_weights": True}])
def test_a_cell_runs_code_only_where_the_workers_operator_allows_it(
    trust: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ALLOW_TRUST, raising=False)
    assert _not_trusted(validate({"name": "plain"})) == ""
    config = validate({"name": "code", "trust": trust})
    assert f"start it with {ALLOW_TRUST}=1" in _not_trusted(config)
    monkeypatch.setenv(ALLOW_TRUST, "1")
    assert _not_trusted(config) == ""


def test_a_server_beyond_loopback_does_not_start_without_a_string(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "PREFECT_SERVER_API_AUTH_STRING"
    for given in ("", "secateur:"):  # as compose.yaml gives it where there is no password
        monkeypatch.setenv(name, given)
        monkeypatch.delenv(PUBLISHED, raising=False)
        assert asked("127.0.0.1") == ""
        assert name not in os.environ, "Prefect would ask for it"
        with pytest.raises(SystemExit, match=name):
            asked("10.0.0.1")
        monkeypatch.setenv(PUBLISHED, "127.0.0.1")
        assert asked("0.0.0.0") == ""  # noqa: S104
        monkeypatch.setenv(PUBLISHED, "10.0.0.1")
        with pytest.raises(SystemExit, match=name):
            asked("0.0.0.0")  # noqa: S104
    monkeypatch.setenv(name, "me:secret")
    assert asked("10.0.0.1") == "me:secret"
