"""A real ``secateur up`` and the requests that its page would send."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from flows.serve.auth import kept_in
from flows.serve.gate import basic

SECRETS = {
    "HF_TOKEN": "hf_secretInTheEnvironment",
    "MLFLOW_TRACKING_PASSWORD": "mlflowSecretInTheEnvironment",
    "PREFECT_SERVER_DATABASE_PASSWORD": "databaseSecretInTheEnvironment",
}
TINY: dict[str, Any] = {
    "models": ["tiny-random"],
    "dtype": "float32",
    "methods": ["magnitude"],
    "targets": ["0.5"],
    "calibration": {"samples": 2, "sequence_length": 64},
    "evaluation": {"perplexity": [{"name": "docs", "sequence_length": 64, "windows": 2}]},
    "save_checkpoints": False,
}
"""A sweep of one cell: seconds."""
SMALL_YAML = json.dumps({"name": "small", **TINY})
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [entry.getsockname()[1] for entry in sockets]
    for entry in sockets:
        entry.close()
    return ports


@dataclass
class Up:
    """One ``secateur up`` in a home of its own."""

    folder: Path
    ports: list[int] = field(default_factory=lambda: free_ports(2))
    process: subprocess.Popen[str] | None = None

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def prefect(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def mlflow(self) -> str:
        return f"http://127.0.0.1:{self.ports[1]}"

    @property
    def output(self) -> str:
        return (self.folder / "up.txt").read_text()

    @property
    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
        return {
            **kept,
            **SECRETS,
            "SECATEUR_HOME": str(self.home),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "200",
        }

    def command(self, *options: str) -> list[str]:
        first, second = map(str, self.ports)
        return [
            sys.executable, "-m", "flows.cli", "up", "--prefect-port", first,
            "--mlflow-port", second, "--data", str(self.data), *options,
        ]  # fmt: skip

    def start(self, *options: str, terminal: int | None = None) -> None:
        """Start it and wait until it says that it is up.

        Args:
            terminal: the end of a pseudo terminal that is to be its controlling one.
        """
        self.data.mkdir(parents=True, exist_ok=True)
        with (self.folder / "up.txt").open("w") as output:
            self.process = subprocess.Popen(
                self.command(*options),
                env=self.environment,
                cwd=self.folder,
                stdin=terminal,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                preexec_fn=_heed_signals if terminal is None else _take_terminal,  # noqa: PLW1509
            )
        deadline = time.monotonic() + 180
        while "Ctrl-C ends" not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.1)

    def end(self, number: int = signal.SIGTERM, seconds: float = 180) -> int:
        """Send a signal and wait for the end; the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def started(self) -> dict[psutil.Process, str]:
        """Command lines of everything that this home's ``up`` started, whoever its parent is."""
        found = {}
        for process in psutil.process_iter():
            try:
                environment = process.environ()
                mine = environment.get("SECATEUR_HOME") == str(self.home)
                if mine and "SECATEUR_UP" in environment:
                    found[process] = " ".join(process.cmdline())
            except (psutil.Error, OSError):
                continue
        return found

    def processes(self) -> list[str]:
        """Their command lines alone."""
        return list(self.started().values())

    def wait_for_no_process(self, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while left := self.processes():
            assert time.monotonic() < deadline, left
            time.sleep(0.2)

    def call(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """A request to Prefect's API; the answer's JSON, raising HTTPError with its text."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        if kept_in(self.home).exists():
            headers["Authorization"] = basic(kept_in(self.home).read_text().strip())
        request = urllib.request.Request(f"{self.prefect}/api{path}", data, headers, method=method)
        for remaining in reversed(range(10)):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                # SQLite is written by one at a time; Prefect's own client asks again too.
                if error.code != 503 or not remaining:
                    raise
                time.sleep(1)
        raise AssertionError("unreachable")

    def trigger(self, deployment: str, parameters: dict[str, Any]) -> str:
        """Run a deployment as its page does; the flow run's id."""
        found = self.call(f"/deployments/name/{deployment}/{deployment}")
        body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        return self.call(f"/deployments/{found['id']}/create_flow_run", body)["id"]

    def refused(self, deployment: str, parameters: dict[str, Any]) -> str:
        """What the form says to parameters that it does not take."""
        try:
            self.trigger(deployment, parameters)
        except urllib.error.HTTPError as error:
            assert error.code == 409
            return json.loads(error.read())["detail"]
        raise AssertionError("it was taken")

    def state(self, run: str) -> dict[str, Any]:
        return self.call(f"/flow_runs/{run}")["state"]

    def wait(self, run: str, *states: str, seconds: float = 300) -> dict[str, Any]:
        """The run's state once its type or name is one of ``states``, or any that is final."""
        deadline = time.monotonic() + seconds
        while True:
            state = self.state(run)
            if {state["type"], state["name"]} & {*(states or ENDED)}:
                return state
            assert state["type"] not in ENDED, state
            assert time.monotonic() < deadline, state
            time.sleep(0.2)

    def run(self, deployment: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Run a deployment; the state it ends in."""
        return self.wait(self.trigger(deployment, parameters))


def _heed_signals() -> None:
    """As in a terminal, also where the tests themselves run in the background or under nohup."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _take_terminal() -> None:
    import fcntl
    import termios

    _heed_signals()

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
