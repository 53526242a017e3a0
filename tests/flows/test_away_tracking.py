"""MLflow's server is away when a sweep begins, in the middle or at its end: no run stays open."""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import CELLS, Home
from serving import free_ports

pytestmark = pytest.mark.slow


@dataclass
class Door:
    """A port in front of a server; while it is shut, whoever comes is sent away.

    Attributes:
        refused: how many were.
    """

    target: int
    open: bool = True
    refused: int = 0
    _passing: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def shut(self) -> None:
        """Let nobody pass any more, those who are through included."""
        self.open, self.refused = False, 0
        for end in self._passing:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._passing.clear()

    def close(self) -> None:
        self.shut()
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                if not self.open:
                    self.refused += 1
                    caller.close()
                    continue
                served = socket.create_connection(("127.0.0.1", self.target))
                self._passing += [caller, served]
                for ends in ((caller, served), (served, caller)):
                    threading.Thread(target=_pass_on, args=ends, daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := one.recv(65536):
            other.sendall(part)
        other.shutdown(socket.SHUT_WR)


@dataclass
class Tracking:
    """A real MLflow server, and the door in front of it."""

    door: Door
    database: Path

    def runs(self, kind: str, name: str = "%") -> list[str]:
        """The states of live runs of a kind, by name."""
        with sqlite3.connect(self.database) as database:
            found = database.execute(
                "select r.status from runs r join tags t using (run_uuid) where r.name like ?"
                " and t.key = 'secateur.kind' and t.value = ? and r.lifecycle_stage = 'active'",
                (name, kind),
            )
            return [status for (status,) in found]


@pytest.fixture
def tracking(tmp_path: Path) -> Iterator[Tracking]:
    (port,) = free_ports(1)
    database = tmp_path / "elsewhere.db"
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.serve.standing", "mlflow", "127.0.0.1", str(port)],
        env={
            **os.environ,
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{database}",
            "MLFLOW_ARTIFACTS_DESTINATION": (tmp_path / "files").as_uri(),
        },
    )
    door = Door(port)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/health"))
        yield Tracking(door, database)
    finally:
        door.close()
        process.kill()
        process.wait()


def answers(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5):
        return True
    return False


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_no_run_of_a_sweep_that_has_ended_stays_open(
    make_home: Callable[..., Home], tracking: Tracking
) -> None:
    home, door = make_home(), tracking.door
    there = {"MLFLOW_TRACKING_URI": door.address}

    # Away when it begins, back before it ends: all is logged.
    door.shut()
    process = home.start("run", "sweep.yaml", **there)
    assert process.stdout
    said = iter(process.stdout.readline, "")
    assert any("is not available" in line for line in said)
    door.open = True
    rest = process.stdout.read()
    assert process.wait() == 0, rest
    assert "not logged" not in rest
    assert tracking.runs("sweep") == ["FINISHED"]
    assert tracking.runs("cell") == ["FINISHED"] * CELLS

    # Away from its middle to its end: nothing can be said there, so the run looks open …
    other = ("run", "sweep.yaml", "--set", "name=other", "--set", "seeds=[1]")
    process = home.start(*other, **there)
    until(lambda: len(tracking.runs("dense")) == 2)
    door.shut()
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert door.refused
    assert "not logged" in output
    assert tracking.runs("sweep", "other") == ["RUNNING"]

    # … until the next sweep of the home, whichever that is; and its own next one finishes it.
    door.open = True
    status, output = home.run("run", "sweep.yaml", **there)
    assert status == 0, output
    assert tracking.runs("sweep", "other") == ["KILLED"]
    status, output = home.run(*other, **there)
    assert status == 0, output
    assert tracking.runs("sweep") == ["FINISHED"] * 2
    assert tracking.runs("cell") == ["FINISHED"] * (2 * CELLS)
