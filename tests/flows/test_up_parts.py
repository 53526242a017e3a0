"""The parts of ``secateur up`` that need no server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from configs.errors import ConfigurationError
from configs.yaml_file import validate
from flows.compute.overlap import exclusive
from flows.serve import running
from flows.serve.running import Running
from flows.serve.service import listen
from flows.serve.services import UpOptions
from flows.serve.settings import (
    host_names,
    mlflow_command,
    mlflow_environment,
    without_secrets,
)
from flows.serve.up import _warn, up

EVERYWHERE = "0.0.0.0"  # noqa: S104


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path))
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PREFECT_UI_URL", "SECATEUR_MLFLOW_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_servers_are_called_by_every_name_of_the_machine_and_no_other(home: Path) -> None:
    names = host_names("127.0.0.1", ["further.example"])
    assert {"127.0.0.1", "localhost", "[::1]", "further.example"} == set(names)
    assert os.uname().nodename in host_names(EVERYWHERE)
    assert not [name for name in host_names(EVERYWHERE) if "*" in name or not name]
    assert mlflow_environment(home)["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"


def test_a_databases_password_is_in_no_command_line(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://user:secret@host/db")
    assert "secret" not in " ".join(mlflow_command("127.0.0.1", 5001))
    assert mlflow_environment(home)["MLFLOW_BACKEND_STORE_URI"].endswith("secret@host/db")


def test_servers_do_not_get_the_hubs_token() -> None:
    assert without_secrets({"HF_TOKEN": "x", "PATH": "y"}) == {"PATH": "y"}


def test_only_another_host_than_loopback_is_warned_about() -> None:
    for host, warned in (("127.0.0.1", False), ("localhost", False), (EVERYWHERE, True)):
        console = Console(record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
        _warn(UpOptions(host=host), console)
        assert ("reachable from other machines" in console.export_text()) is warned, host


def test_a_host_of_another_machine_is_named() -> None:
    with pytest.raises(ConfigurationError, match="--host"):
        listen("203.0.113.1", 0, "--prefect-port")


def test_two_servers_take_two_ports(home: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"--mlflow-port.*another than --prefect-port"):
        up(UpOptions(prefect_port=4321, mlflow_port=4321), Console(quiet=True))


def test_up_refuses_to_stand_beside_the_server_that_the_environment_names(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://user:secret@elsewhere/api")
    with pytest.raises(ConfigurationError, match="PREFECT_API_URL") as refused:
        up(UpOptions(), Console(quiet=True))
    assert "secret" not in str(refused.value)


def test_an_up_that_is_gone_is_not_used(home: Path) -> None:
    gone = Running(
        token="t",
        pid=os.getpid(),
        created=psutil.Process().create_time() - 100,  # a number that was given away again
        prefect="http://127.0.0.1:9",
        mlflow="http://127.0.0.1:9",
    )
    running.write(home, gone)
    assert running.written(home) == gone
    assert not gone.alive
    running.use_running(home)
    assert "PREFECT_API_URL" not in os.environ
    assert "SECATEUR_MLFLOW_URL" not in os.environ


def test_a_marked_process_is_found_and_removed_and_no_other() -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    mine = subprocess.Popen(
        sleep, env={**os.environ, "SECATEUR_UP": "mine"}, start_new_session=True
    )
    other = subprocess.Popen(sleep, env={**os.environ, "SECATEUR_UP": "other"})
    try:
        up = Running(token="mine", pid=1, created=0.0, prefect="", mlflow="")
        deadline = time.monotonic() + 120
        while not up.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [process.pid for process in up.processes()] == [mine.pid]
        assert up.kill_rest() == 1
        assert not psutil.pid_exists(mine.pid)
        assert other.poll() is None
    finally:
        for process in (mine, other):
            process.kill()
            process.wait()


HOLD = """
import sys, time
from configs.yaml_file import validate
from flows.compute.overlap import exclusive
with exclusive(validate({"name": "held"}), print):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_sweeps_name_is_free_again_when_its_holder_is_killed(home: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    refusing = validate({"name": "held", "on_overlap": "refuse"})
    with pytest.raises(ConfigurationError) as refused, exclusive(refusing, pytest.fail):
        pass
    assert f"process {holder.pid}" in str(refused.value)
    with exclusive(validate({"name": "another", "on_overlap": "refuse"}), pytest.fail):
        pass
    holder.kill()
    holder.wait()
    with exclusive(refusing, pytest.fail):
        pass
