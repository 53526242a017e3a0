"""Runs the real command in processes of its own, on the tiny random model."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from serving import Up

from flows.serve.embedded import EmbeddedServer
from tasks.reporting.rows import read_results
from tasks.tracking.connection import initialise

SWEEP = """
name: demo
models: [tiny-random]
dtype: float32
calibration: {corpus: {source: python-docs}, samples: 2, sequence_length: 64}
methods: [magnitude, wanda, swiftprune]
targets: ["0.5", "2:4"]
evaluation:
  perplexity:
    - {name: docs, corpus: {source: python-docs}, sequence_length: 64, windows: 2}
"""
CELLS = 6
DIVERGING = (
    "--set", "options.ast={steps: 3, batch: 1, micro_batch: 1, learning_rate: 1.0e+30}",
    "--set", "training.sequence_length=64",
)  # fmt: skip
"""With them cells of ``ast`` fail, and no plan can know."""


@dataclass
class Home:
    """One SECATEUR_HOME and the command that works in it."""

    path: Path
    api: str = ""
    """A running Prefect server to use; empty: the command starts its own."""

    def environment(self, **changes: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PREFECT_", "MLFLOW_"))
        }
        return {
            **kept,
            "SECATEUR_HOME": str(self.path),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "100",
            **({"PREFECT_API_URL": self.api} if self.api else {}),
            **changes,
        }

    @property
    def sweep_file(self) -> Path:
        return self.path.parent / "sweep.yaml"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """The command in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *arguments],
            env=self.environment(**environment),
            cwd=self.path.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str]:
        """(exit status, everything that was printed)."""
        process = self.start(*arguments, **environment)
        try:
            output, _ = process.communicate()  # pytest's own time-out ends what hangs
        finally:
            kill_group(process)
        return process.returncode, output

    def rows(self, sweep: str = "demo") -> list[dict[str, Any]]:
        return read_results(self.path / "sweeps" / sweep)

    def prefect(self, query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.path / "prefect" / "prefect.db") as database:
            return database.execute(query).fetchall()

    def mlflow(self, query: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.path / "mlflow.db") as database:
            return database.execute(query).fetchall()

    def logged_cells(self) -> list[str]:
        """The cell fingerprints of all live runs, one entry a run."""
        return [
            row[0]
            for row in self.mlflow(
                "select t.value from tags t join runs r on r.run_uuid = t.run_uuid"
                " where t.key = 'secateur.cell' and r.lifecycle_stage = 'active'"
            )
        ]

    def servers(self) -> list[int]:
        """Processes of the embedded server that belong to this home."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if b"flows.serve.embedded" in command and str(self.path).encode() in command:
                found.append(int(folder.name))
        return found

    def wait_for_no_server(self, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while self.servers():
            assert time.monotonic() < deadline, f"orphans: {self.servers()}"
            time.sleep(0.2)


def kill_group(process: subprocess.Popen[str]) -> None:
    """Kill the command hard; its server has a group of its own and must notice by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


FIGURES = ("perplexity/docs", "dense_perplexity/docs", "sparsity", "nonzero_parameters", "status")


def figures(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What must not depend on when, where or how often a sweep ran."""
    return {
        (row["model"], row["method"], row["target"], row["seed"], row["fingerprint"]): tuple(
            row[name] for name in FIGURES
        )
        for row in rows
    }


@pytest.fixture(scope="session")
def shared_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prefect server for the tests that are not about the embedded one: it starts once."""
    server = EmbeddedServer(tmp_path_factory.mktemp("server"))
    try:
        server.wait()
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty one: MLflow's migrations take eight seconds of processor time for each."""
    folder = tmp_path_factory.mktemp("mlflow")
    initialise(folder)
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def make_home(
    tmp_path_factory: pytest.TempPathFactory, shared_api: str, mlflow_database: Path
) -> Callable[..., Home]:
    """Homes; those with a server of their own begin from nothing, as a user's does."""

    def make(*, embedded: bool = False) -> Home:
        folder = tmp_path_factory.mktemp("user")
        (folder / "sweep.yaml").write_text(SWEEP)
        home = Home(folder / "home", "" if embedded else shared_api)
        if not embedded:
            home.path.mkdir()
            shutil.copy(mlflow_database, home.path)
        return home

    return make


@pytest.fixture(scope="session")
def finished(make_home: Callable[..., Home]) -> Home:
    """A home in which the sweep has run once."""
    home = make_home(embedded=True)
    status, output = home.run("run", "sweep.yaml")
    assert status == 0, output
    (home.path.parent / "output.txt").write_text(output)
    return home


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One ``secateur up`` for all tests that need a page; it must end clean."""
    up = Up(tmp_path_factory.mktemp("up"))
    up.start()
    try:
        yield up
    finally:
        assert up.end() == 0, up.output
        assert up.processes() == []
