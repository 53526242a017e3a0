"""However ``secateur up`` ends, nothing of it is left, and its runs do not stay running."""

from __future__ import annotations

import os
import pty
import signal
import sqlite3
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from serving import TINY, Up

pytestmark = pytest.mark.slow

LONG = TINY | {"name": "long", "seeds": list(range(40)), "targets": ["0.5", "2:4"]}
"""A minute and more: it is still running when its server ends."""


def flow_run(up: Up, run: str) -> tuple[str, str]:
    """(state, message) as the database has it."""
    with sqlite3.connect(up.home / "prefect" / "prefect.db") as database:
        return database.execute(
            "select r.state_name, s.message from flow_run r join flow_run_state s "
            "on s.id = r.state_id where r.id in (?, ?)",
            (run, run.replace("-", "")),
        ).fetchone()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Up:
    return Up(tmp_path_factory.mktemp("ends"))


def test_a_hard_kill_leaves_nothing_and_the_next_one_says_what_became_of_its_runs(up: Up) -> None:
    up.start()
    run = up.trigger("sweep", LONG)
    up.wait(run, "RUNNING")
    assert len(up.processes()) > 5
    assert up.end(signal.SIGKILL) == -signal.SIGKILL
    up.wait_for_no_process()
    assert (up.home / "up.json").exists()
    up.start()
    state = up.state(run)
    assert state["name"] == "Crashed"
    assert "run it again" in state["message"]
    assert up.end(signal.SIGHUP) == 0
    assert up.processes() == []
    assert not (up.home / "up.json").exists()


def test_what_a_killed_one_left_is_removed_by_the_next(up: Up) -> None:
    """Also its guards are killed: then nobody is there to end what they guard."""
    up.start()
    assert up.process is not None
    guards = [int(p) for p in _marked(up, "tasks.processes.guard")]
    assert len(guards) == 2
    for pid in (up.process.pid, *guards):
        os.kill(pid, signal.SIGKILL)
    up.process.wait()
    left = up.started()
    assert left
    for process in left:  # on a busy machine some would end by themselves before the next comes
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    up.start()
    assert not any(process.is_running() for process in left)
    assert "that a killed secateur up had left" in up.output
    assert up.end(signal.SIGTERM) == 0
    assert up.processes() == []


def _marked(up: Up, part: str) -> list[str]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if part.encode() in command and f"SECATEUR_HOME={up.home}".encode() in environment:
            found.append(folder.name)
    return found


@pytest.mark.parametrize("way", ["ctrl-c", "closed"])
def test_ctrl_c_and_a_closed_terminal_end_all_of_it(way: str, up: Up) -> None:
    master, terminal = pty.openpty()
    up.start(terminal=terminal)
    os.close(terminal)
    run = up.trigger("sweep", LONG)
    up.wait(run, "RUNNING")
    if way == "ctrl-c":
        os.write(master, b"\x03")
    else:
        os.close(master)
    assert up.process is not None
    assert up.process.wait(180) == 0
    assert up.processes() == []
    name, message = flow_run(up, run)
    assert name == "Crashed"
    assert "ended" in message
    if way == "ctrl-c":
        os.close(master)
