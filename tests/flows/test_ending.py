"""However a sweep of the command line ends, nothing shows it as running that does not run."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable

import pytest
from conftest import Home

pytestmark = pytest.mark.slow

LONG = ("--set", f"seeds={list(range(40))}", "--set", "name=long")
"""A minute and more: it is still running when it is ended."""


def logged(home: Home) -> int:
    return len(home.logged_cells()) if (home.path / "mlflow.db").exists() else 0


def begin(home: Home) -> subprocess.Popen[str]:
    """A sweep that has logged a cell of its own."""
    before = logged(home)
    process = home.start("run", "sweep.yaml", *LONG)
    deadline = time.monotonic() + 300
    while logged(home) == before:
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return process


def open_runs(home: Home) -> list[tuple[str, ...]]:
    runs = home.prefect(
        "select 'prefect', name from flow_run where state_type in ('RUNNING', 'PENDING')"
    )
    return runs + home.mlflow("select 'mlflow', name from runs where status = 'RUNNING'")


def test_a_signal_ends_it_in_order_and_a_kill_is_told_by_the_next(
    make_home: Callable[..., Home],
) -> None:
    home = make_home(embedded=True)
    process = begin(home)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)  # it took 74 s to give up on its own server
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "interrupted; run the same command again" in output
    assert open_runs(home) == [], output
    assert home.servers() == []

    process = begin(home)
    process.kill()
    process.wait()
    home.wait_for_no_server()
    assert open_runs(home) != []
    status, output = home.run("run", "sweep.yaml", "--set", "targets=[0.5]",
                              "--set", "methods=[magnitude]")  # fmt: skip
    assert status == 0, output
    assert open_runs(home) == []
