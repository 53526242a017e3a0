"""What people do in the page of a running ``secateur up``, through the requests that it sends."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from serving import SECRETS, SMALL_YAML, TINY, Up

from flows.serve import running
from tasks.reporting.rows import read_results

pytestmark = pytest.mark.slow


def command(up: Up, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=up.environment,
        cwd=up.folder,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture(scope="module")
def swept(served: Up) -> dict[str, Any]:
    """A sweep that the form started: the state it ended in."""
    return served.run("sweep", TINY | {"name": "formed"}) | {"rows": rows(served, "formed")}


def rows(up: Up, name: str) -> list[dict[str, Any]]:
    return read_results(up.home / "sweeps" / name)


def mlflow(up: Up, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(up.home / "mlflow.db") as database:
        return database.execute(query).fetchall()


def test_both_pages_answer_and_their_addresses_are_printed(served: Up) -> None:
    assert served.prefect in served.output
    assert served.mlflow in served.output
    for address in (served.prefect, f"{served.prefect}/api/health", served.mlflow):
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.status == 200
            page = answer.read()
    assert b"machine_learning" in page  # else MLflow's page opens experiments as those of agents
    assert page.endswith(b"</html>")
    form = next(line.strip() for line in served.output.splitlines() if line.endswith("/run"))
    found = served.call("/deployments/name/sweep/sweep")
    assert form == f"{served.prefect}/v2/deployments/deployment/{found['id']}/run"


@pytest.mark.parametrize("server", ["mlflow", "prefect"])
def test_the_servers_answer_only_to_their_own_names(server: str, served: Up) -> None:
    path = "/api/health" if server == "prefect" else "/api/2.0/mlflow/experiments/search"
    request = urllib.request.Request(
        f"{getattr(served, server)}{path}", headers={"Host": "evil.example"}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    assert refused.value.code == 403


@pytest.mark.parametrize("server", ["mlflow", "prefect"])
def test_another_page_is_not_let_in(server: str, served: Up) -> None:
    for origin in ("http://evil.example", "http://localhost:9", "null"):
        request = urllib.request.Request(
            f"{getattr(served, server)}/api/health", headers={"Origin": origin}
        )
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(request, timeout=30)


def test_a_sweep_from_the_form_ends_as_from_the_command_line(
    served: Up, swept: dict[str, Any]
) -> None:
    assert swept["type"] == "COMPLETED", swept
    assert [row["status"] for row in swept["rows"]] == ["completed"] * 2
    assert (served.home / "sweeps" / "formed" / "report.md").exists()
    runs = served.call(
        "/flow_runs/filter", {"flow_runs": {"name": {"any_": ["formed"]}}, "limit": 5}
    )
    logs = served.call(
        "/logs/filter", {"logs": {"flow_run_id": {"any_": [runs[0]["id"]]}}, "limit": 200}
    )
    said = [entry["message"] for entry in logs]
    assert any("tiny-random magnitude 0.5" in line and "perplexity" in line for line in said), said


def test_each_cell_run_links_to_its_mlflow_run_and_back(served: Up, swept: dict[str, Any]) -> None:
    cell = next(row for row in swept["rows"] if row["method"] == "magnitude")
    run_id = cell["mlflow_run_id"]
    tags = mlflow(served, "select run_uuid, value from tags where key = 'prefect.flow_run'")
    back = [address for uuid, address in tags if uuid == run_id]
    assert len(back) == 1
    page, _, run = back[0].rpartition("/runs/flow-run/")
    assert page == f"{served.prefect}/v2"
    assert served.call(f"/flow_runs/{run}")["name"].startswith("magnitude 0.5")
    links = served.call(
        "/artifacts/filter",
        {"artifacts": {"flow_run_id": {"any_": [run]}, "type": {"any_": ["markdown"]}}},
    )
    there = f"{served.mlflow}/#/experiments/"
    assert any(there in link["data"] and cell["mlflow_run_id"] in link["data"] for link in links), (
        links
    )


def test_a_sweeps_artifacts_come_in_the_order_of_reading(served: Up, swept: dict[str, Any]) -> None:
    runs = served.call("/flow_runs/filter", {"flow_runs": {"name": {"any_": ["formed"]}}})
    # As the page asks for them.
    shown = served.call(
        "/artifacts/filter",
        {
            "artifacts": {
                "flow_run_id": {"any_": [run["id"] for run in runs]},
                "type": {"not_any_": ["result"]},
            },
            "sort": "ID_DESC",
        },
    )
    plots = sum(entry["type"] == "image" for entry in shown)
    assert plots > 1
    assert [(entry["type"], entry["key"]) for entry in shown[:2]] == [
        ("markdown", "formed-report"),
        ("table", "formed-results"),
    ]
    assert {entry["type"] for entry in shown[2 : 2 + plots]} == {"image"}
    titles = [entry["description"] for entry in shown]
    assert all(titles)
    assert len(set(titles)) == len(titles)
    assert swept["type"] == "COMPLETED"


def test_mlflows_server_shows_the_runs_and_opens_their_artifacts(
    served: Up, swept: dict[str, Any]
) -> None:
    parent = mlflow(
        served,
        "select t.run_uuid from tags t join runs r on r.run_uuid = t.run_uuid where "
        "t.key = 'secateur.kind' and t.value = 'sweep' and r.name = 'formed'",
    )[0][0]
    address = f"{served.mlflow}/get-artifact?path=report.md&run_uuid={parent}"
    with urllib.request.urlopen(address, timeout=30) as answer:
        assert b"magnitude" in answer.read()


def test_a_preset_runs_by_name_with_changes(served: Up) -> None:
    settings = ["methods=[magnitude]", "targets=[0.5]", "name=changed"]
    state = served.run("preset", {"preset": "smoke", "settings": settings})
    assert state["type"] == "COMPLETED", state
    assert [row["method"] for row in rows(served, "changed")] == ["dense", "magnitude"]


REFUSED = {
    "an unknown method": ({"methods": ["wandaa"]}, ["methods", "wandaa", "magnitude"]),
    "no methods": ({"methods": []}, ["methods"]),
    "a misspelt field": ({"sedes": [1]}, ["sedes"]),
    "a misspelt field of a card": ({"calibration": {"sample": 1}}, ["calibration", "sample"]),
    "a name that climbs": ({"name": "../x"}, ["name", "../x"]),
    "trust": ({"trust": {"remote_code": True}}, ["trust"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_form_refuses_what_it_can(case: str, served: Up) -> None:
    parameters, parts = REFUSED[case]
    said = served.refused("sweep", parameters)
    for part in parts:
        assert part in said


FAILED = {
    "a target": ("sweep", {"targets": ["1.5"]}, ["targets[0]: '1.5'", "from 0.0001 to 0.9999"]),
    "a file outside": (
        "sweep",
        {"calibration": {"corpus": {"source": "files", "files": ["../up.txt"]}}},
        ["calibration.corpus.files[0]", "../up.txt", "below the data folder"],
    ),
    "a change of a preset": (
        "preset",
        {"preset": "smoke", "settings": ["trust.remote_code=true"]},
        ["trust.remote_code", "--allow-trust"],
    ),
}


def test_what_the_form_cannot_see_fails_with_the_command_lines_words(served: Up) -> None:
    started = {
        case: served.trigger(deployment, parameters)
        for case, (deployment, parameters, _) in FAILED.items()
    }
    for case, run in started.items():
        state = served.wait(run)
        assert state["type"] == "FAILED", (case, state)
        for part in FAILED[case][2]:
            assert part in state["message"], (case, state)


def test_the_command_line_uses_the_running_servers(served: Up) -> None:
    (served.folder / "small.yaml").write_text(SMALL_YAML)
    done = command(served, "-m", "flows.cli", "run", "small.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    found = served.call(
        "/flow_runs/filter", {"flow_runs": {"name": {"any_": ["small"]}}, "limit": 5}
    )
    assert [run["state_type"] for run in found] == ["COMPLETED"]
    assert not (served.home / "logs" / "prefect-server.log").exists(), "it started one of its own"


def test_an_overlapping_sweep_waits_or_is_refused(served: Up) -> None:
    from filelock import FileLock

    lock = FileLock(served.home / "locks" / "sweep-overlap.lock")
    with lock:  # as a sweep of that name does, for as long as it runs
        # As many as may run at once: those that wait hold no place of the others.
        waiting, also = (served.trigger("sweep", TINY | {"name": "overlap"}) for _ in range(2))
        refused = served.trigger("sweep", TINY | {"name": "overlap", "on_overlap": "refuse"})
        state = [served.wait(run, "Waiting") for run in (also, waiting)][1]
        assert "waiting for the sweep overlap" in state["message"]
        state = served.wait(refused)
        assert state["type"] == "FAILED"
        assert "name: 'overlap'" in state["message"]
        assert "runs already" in state["message"]
        assert {served.state(run)["name"] for run in (waiting, also)} == {"Waiting"}
        (served.folder / "overlap.yaml").write_text(SMALL_YAML.replace("small", "overlap"))
        done = command(
            served, "-m", "flows.cli", "run", "overlap.yaml", "--set", "on_overlap=refuse"
        )
        assert done.returncode == 2
        assert "on_overlap" in done.stderr
        assert not (served.home / "sweeps" / "overlap").exists()
    assert {served.wait(run)["type"] for run in (waiting, also)} == {"COMPLETED"}
    # It began once to see that it must wait, and after each of the two that ended before it.
    assert served.call(f"/flow_runs/{waiting}")["run_count"] <= 3


def test_a_schedule_of_prefect_yaml_is_there_with_its_parameters_and_a_due_one_fires(
    served: Up,
) -> None:
    prefect_file = Path(__file__).parents[2] / "flows" / "prefect.yaml"
    environment = served.environment | {"PREFECT_API_URL": f"{served.prefect}/api"}
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all",
         "--prefect-file", str(prefect_file)],
        env=environment, cwd=prefect_file.parents[1], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    nightly = served.call("/deployments/name/sweep/nightly")
    (schedule,) = nightly["schedules"]
    assert schedule["active"] is False
    assert schedule["schedule"]["cron"] == "0 2 * * *"
    assert nightly["parameters"]["name"] == "nightly"
    assert nightly["parameters"]["on_overlap"] == "refuse"
    # As the page adds one: every few seconds, with parameters of its own.
    body = {
        "schedule": {"interval": 5.0},
        "active": True,
        "parameters": TINY | {"name": "scheduled"},
    }
    made = served.call(f"/deployments/{nightly['id']}/schedules", [body])
    deadline = time.monotonic() + 120
    chosen = {
        "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
        "deployments": {"id": {"any_": [nightly["id"]]}},
    }
    while not (fired := served.call("/flow_runs/filter", chosen)):
        assert time.monotonic() < deadline
        time.sleep(0.3)
    address = f"/deployments/{nightly['id']}/schedules/{made[0]['id']}"
    served.call(address, method="DELETE")  # the page's button; due runs go with it
    assert fired[0]["auto_scheduled"]
    assert fired[0]["name"] == "scheduled"
    assert [row["method"] for row in rows(served, "scheduled")] == ["dense", "magnitude"]


def test_making_the_deployments_again_keeps_schedules_of_the_page(served: Up) -> None:
    found = served.call("/deployments/name/sweep/sweep")
    body = {"schedule": {"cron": "0 3 * * *", "timezone": "UTC"}, "active": False,
            "parameters": {"name": "weekly"}}  # fmt: skip
    served.call(f"/deployments/{found['id']}/schedules", [body])
    before = served.call("/deployments/name/sweep/sweep")["updated"]
    again = subprocess.run(
        [sys.executable, "-m", "flows.serve.registration"],
        env=served.environment | {"PREFECT_API_URL": f"{served.prefect}/api"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    after = served.call("/deployments/name/sweep/sweep")
    assert after["updated"] > before
    kept = after["schedules"]
    assert [(entry["schedule"]["cron"], entry["parameters"]) for entry in kept] == [
        ("0 3 * * *", {"name": "weekly"})
    ]


def test_a_second_up_on_the_same_home_says_where_the_first_is(served: Up) -> None:
    second = command(served, *Up(served.folder).command()[1:])
    assert second.returncode == 2
    said = " ".join(second.stderr.split())
    assert "already" in said
    assert served.prefect in said
    assert served.mlflow in said
    known = running.written(served.home)
    assert known is not None
    assert known.alive


def test_a_dead_mlflow_is_started_again(served: Up) -> None:
    (pid,) = {
        entry.pid for entry in psutil.net_connections("tcp")
        if entry.laddr.port == served.ports[1] and entry.status == psutil.CONN_LISTEN and entry.pid
    }  # fmt: skip
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 180
    while "it is started again" not in served.output or not running.answers(
        f"{served.mlflow}/health"
    ):
        assert time.monotonic() < deadline, served.output
        time.sleep(0.5)
    assert served.process is not None
    assert served.process.poll() is None


@pytest.mark.parametrize(("option", "position"), [("--prefect-port", 0), ("--mlflow-port", 1)])
def test_a_taken_port_is_named_with_its_option(
    option: str, position: int, served: Up, tmp_path: Path
) -> None:
    other = Up(tmp_path)
    other.ports[position] = served.ports[position]
    done = command(other, *other.command()[1:])
    assert done.returncode == 2
    said = " ".join(done.stderr.split())
    assert f"{option}: {served.ports[position]}" in said
    assert "choose another port" in said
    assert other.processes() == []


def test_no_secret_of_the_environment_is_written_anywhere(
    served: Up, swept: dict[str, Any]
) -> None:
    failing = TINY | {"name": "failing", "models": ["org/no-such-model"]}
    assert served.run("sweep", failing)["type"] == "FAILED"
    assert swept["type"] == "COMPLETED"
    needles = [value.encode() for value in SECRETS.values()]
    read = 0
    for folder in (served.home, served.folder / "up.txt"):
        for path in [folder] if folder.is_file() else folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                read += 1
                assert not [n for n in needles if n in content], path
    assert read > 30
    assert os.environ.get("HF_TOKEN") not in SECRETS.values(), "the test's own environment"
