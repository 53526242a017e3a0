"""Whatever somebody at Prefect's API asks for: what runs is what secateur registered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import TINY, Up

from flows.serve.registration import CELL, FORMS, POOL

pytestmark = pytest.mark.slow


@pytest.fixture
def marker(served: Up) -> Iterator[Path]:
    """A file that no run may make."""
    path = served.folder / "it-was-run"
    yield path
    assert not path.exists()


def deployment(served: Up, name: str, **fields: Any) -> str:
    """A deployment that somebody makes at the API; its id."""
    flow = served.call("/flows/name/sweep")["id"]
    body = {"name": name, "flow_id": flow, "work_pool_name": POOL, **fields}
    return served.call("/deployments/", body)["id"]


def start(served: Up, made: str, **fields: Any) -> str:
    body = {"state": {"type": "SCHEDULED"}, "enforce_parameter_schema": False, **fields}
    return served.call(f"/deployments/{made}/create_flow_run", body)["id"]


def pulling(marker: Path) -> list[dict[str, Any]]:
    return [{"prefect.deployments.steps.run_shell_script": {"script": f"touch {marker}"}}]


def test_job_variables_and_other_entrypoints_are_refused_in_words(served: Up, marker: Path) -> None:
    sweep = served.call("/deployments/name/sweep/sweep")["id"]
    (served.data / "foreign.py").write_text(f"open({str(marker)!r}, 'w')\ndef sweep(): ...\n")
    place = {"path": str(served.data), "pull_steps": pulling(marker)}
    foreign = deployment(served, "foreign", entrypoint="foreign.py:sweep", **place)
    patched = deployment(served, "patched", entrypoint=FORMS["sweep"])
    served.call(
        f"/deployments/{patched}", {"entrypoint": f"{served.data}/foreign.py:sweep"}, "PATCH"
    )
    varied = deployment(
        served, "varied", entrypoint=FORMS["sweep"], job_variables={"working_dir": "/"}
    )
    cell = deployment(served, "cell", entrypoint=CELL)
    command = {"command": f"touch {marker}"}
    outside = {"env": {"SECATEUR_DATA": "/", "SECATEUR_ALLOW_TRUST": "1"}}
    started = {
        start(served, sweep, parameters=TINY, job_variables=command): "job variables: command",
        start(served, sweep, parameters=TINY, job_variables=outside): "job variables: env",
        start(served, varied, parameters=TINY): "job variables: working_dir",
        start(served, foreign): "entrypoint: 'foreign.py:sweep'",
        start(served, patched): "foreign.py:sweep' is nothing that secateur registered",
        start(served, cell): f"entrypoint: '{CELL}'",
    }
    for run, said in started.items():
        state = served.wait(run)
        assert state["type"] == "CRASHED", state
        assert said in state["message"]


@pytest.fixture
def patched_pool(served: Up, marker: Path) -> Iterator[None]:
    """Its template says what to run, where, and with which environment."""
    template = served.call(f"/work_pools/{POOL}")["base_job_template"]
    job = {
        "command": f"touch {marker}",
        "env": {"SECATEUR_DATA": "/"},
        "working_dir": str(served.data),
    }
    patched = {**template, "job_configuration": {**template["job_configuration"], **job}}
    served.call(f"/work_pools/{POOL}", {"base_job_template": patched}, "PATCH")
    yield
    served.call(f"/work_pools/{POOL}", {"base_job_template": template}, "PATCH")


@pytest.fixture
def automation(served: Up, marker: Path) -> Iterator[None]:
    """The one that a foreign page made, from a program that may: each failure runs a sweep."""
    trigger = {
        "type": "event",
        "expect": ["prefect.flow-run.Failed"],
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "for_each": ["prefect.resource.id"],
        "posture": "Reactive",
        "threshold": 1,
        "within": 0,
    }
    action = {
        "type": "run-deployment",
        "source": "selected",
        "deployment_id": served.call("/deployments/name/sweep/sweep")["id"],
        "parameters": TINY | {"name": "automated"},
        "job_variables": {"command": f"touch {marker}"},
    }
    body = {"name": "automated", "enabled": True, "trigger": trigger, "actions": [action]}
    made = served.call("/automations/", body)["id"]
    yield
    served.call(f"/automations/{made}", method="DELETE")


@pytest.mark.usefixtures("patched_pool", "automation")
def test_a_patched_pool_pull_steps_and_automations_run_nothing(served: Up, marker: Path) -> None:
    made = deployment(served, "pulling", entrypoint=FORMS["sweep"], pull_steps=pulling(marker))
    outside = {"source": "files", "files": [str(served.folder / "up.txt").lstrip("/")]}
    perplexity = TINY["evaluation"]["perplexity"][0] | {"corpus": outside}
    # With the pool's environment it would find the file.
    failing = TINY | {"name": "outside", "evaluation": {"perplexity": [perplexity]}}
    time.sleep(3)  # the worker learns of the template by itself
    failed = served.wait(start(served, made, parameters=failing))
    assert failed["type"] == "FAILED", failed
    assert str(served.data) in failed["message"]
    deadline = time.monotonic() + 60
    while not (sent := _named(served, "automated")):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    state = served.wait(sent)
    assert state["type"] == "CRASHED"
    assert "job variables: command" in state["message"]


def _named(served: Up, sweep: str) -> str:
    """The id of a run of that sweep; empty where there is none yet."""
    found = served.call("/flow_runs/filter", {"limit": 50, "sort": "EXPECTED_START_TIME_DESC"})
    return next((run["id"] for run in found if run["parameters"].get("name") == sweep), "")
