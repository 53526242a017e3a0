"""Several "machines" on this one: servers, workers with checkouts and homes of their own."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

REPOSITORY = Path(__file__).parents[1]
PACKAGES = ("flows", "tasks", "configs")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def kill_tree(pid: int, *, spare: Callable[[psutil.Process], bool] = lambda _: False) -> int:
    """SIGKILL a process and all that descends from it, as when a machine loses power."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
        for member in family:  # none may start another meanwhile
            with contextlib.suppress(psutil.NoSuchProcess):
                member.suspend()
        chosen = [member for member in family if not spare(member)]
        for member in chosen:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.resume()
        return len(chosen)
    return 0


def answers(url: str, seconds: float = 120) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        assert time.monotonic() < deadline, f"{url} does not answer"
        time.sleep(0.3)


@dataclass
class Cluster:
    """A folder with one shared home, and a folder for each machine."""

    folder: Path
    prefect_url: str = ""
    mlflow_url: str = ""
    methods: tuple[Path, ...] = ()
    """Method files that every machine's checkout gets."""
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "shared"

    def machine(self, name: str) -> Path:
        """A machine's folder: a checkout of this repository and a Prefect home."""
        folder = self.folder / name
        if not folder.exists():
            for package in PACKAGES:
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(REPOSITORY / package, folder / package, ignore=ignored)
            for path in self.methods:
                shutil.copy(path, folder / "tasks" / "pruning")
        return folder

    def environment(self, name: str, **changes: str) -> dict[str, str]:
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PREFECT_", "MLFLOW_", "SECATEUR_"))
        }
        folder = self.machine(name)
        return {
            **kept,
            "PYTHONPATH": str(folder),
            "TEST_MACHINE": str(folder),
            "PREFECT_HOME": str(folder / "prefect-home"),
            "PREFECT_API_URL": self.prefect_url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "true",
            "SECATEUR_HOME": str(self.home),
            **({"MLFLOW_TRACKING_URI": self.mlflow_url} if self.mlflow_url else {}),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "100",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **changes,
        }

    def start(self, name: str, *command: str, **changes: str) -> subprocess.Popen[bytes]:
        """Start a Python module on a machine; its output goes to a file there."""
        folder = self.machine(name)
        with (folder / f"{command[0].replace('.', '-')}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env=self.environment(name, **changes),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Heeds Ctrl-C also where the suite itself runs in the background, which does not.
                preexec_fn=_heed_interrupts,  # noqa: PLW1509 (nothing but a signal is set)
            )
        self.started.append(process)
        return process

    def run(self, name: str, *command: str, **changes: str) -> tuple[int, str]:
        """Run a Python module on a machine to its end."""
        ended = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.machine(name),
            env=self.environment(name, **changes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        return ended.returncode, ended.stdout

    def serve_prefect(self, database: str = "") -> None:
        """Start a Prefect server, on SQLite or on the database of this URL."""
        port = free_port()
        self.prefect_url = f"http://127.0.0.1:{port}/api"
        changes = {"PREFECT_API_DATABASE_CONNECTION_URL": database} if database else {}
        self.start("server", "flows.serve.standing", "prefect", "127.0.0.1", str(port), **changes)
        answers(f"{self.prefect_url}/health", 300)

    def worker(
        self, name: str, pool: str, limit: int = 1, **changes: str
    ) -> subprocess.Popen[bytes]:
        """Start a worker, as an operator does."""
        arguments = ("--pool", pool, "--limit", str(limit))
        changes = {"PREFECT_WORKER_QUERY_SECONDS": "2", **changes}
        return self.start(name, "flows.serve.worker", *arguments, **changes)

    def log(self, name: str, command: str = "flows.cli") -> str:
        path = self.machine(name) / f"{command.replace('.', '-')}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def cells(self, name: str = "") -> list[psutil.Process]:
        """Processes that compute cells on a machine, or on all."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                folder = process.environ().get("TEST_MACHINE", "")
                engine = "flows.serve.engine" in process.cmdline()
                if engine and folder.startswith(str(self.folder / name)):
                    found.append(process)
        return found

    def runs(self) -> list[dict[str, Any]]:
        """Flow runs by Prefect's API, oldest first."""
        body = {"sort": "START_TIME_ASC", "limit": 200}
        return httpx.post(f"{self.prefect_url}/flow_runs/filter", json=body, timeout=30).json()

    def running_cells(self) -> list[dict[str, Any]]:
        """Runs of cells that Prefect calls running."""
        return [
            run for run in self.runs() if run["deployment_id"] and run["state_type"] == "RUNNING"
        ]

    def close(self) -> None:
        """End everything, children included."""
        for process in self.started:
            kill_tree(process.pid)
        for process in self.cells():
            kill_tree(process.pid)
        for process in self.started:
            process.wait()


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[int]:
    """A PostgreSQL server of its own; gives its port. Runs as postgres where we are root."""
    folder.mkdir(parents=True)
    tools = Path(shutil.which("initdb") or "initdb").resolve().parent
    user = "postgres" if os.getuid() == 0 else None
    if user:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    data, port = folder / "data", free_port()
    subprocess.run(
        [str(tools / "initdb"), "-D", str(data), "-U", "secateur", "--auth=trust", "--no-sync"],
        user=user,
        cwd=folder,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with (folder / "postgres.log").open("wb") as log:
        server = subprocess.Popen(
            [str(tools / "postgres"), "-D", str(data), "-p", str(port),
             "-h", "127.0.0.1", "-k", "", "-c", "fsync=off", "-c", "max_connections=200"],
            user=user,
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while subprocess.run(
            [str(tools / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)], check=False
        ).returncode:
            assert time.monotonic() < deadline, (folder / "postgres.log").read_text()
            time.sleep(0.3)
        for name in ("prefect", "mlflow"):
            subprocess.run(
                [
                    str(tools / "createdb"),
                    "-h",
                    "127.0.0.1",
                    "-p",
                    str(port),
                    "-U",
                    "secateur",
                    name,
                ],
                check=True,
            )
        yield port
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
