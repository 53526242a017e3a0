"""compose.yaml as Docker would read it, and its services as processes of this machine.

No Docker engine is needed: each service's command, environment and health check are taken as they
stand, after interpolation. Only what a container has to itself is exchanged: host names and ports,
paths, and ``python`` for this environment's.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
DOCKER = ROOT / "docker"
BIN = Path(sys.executable).parent
EVERYWHERE = "0.0.0.0"  # noqa: S104 (within a container)
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def interpolated(text: str, variables: Mapping[str, str]) -> str:
    """``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}``, as Compose has them.

    Raises:
        ValueError: a required variable is missing or empty; the message is the file's own.
    """

    def value(match: re.Match[str]) -> str:
        name, kind, word = match.groups()
        given = variables.get(name, "")
        if not given and kind == "?":
            raise ValueError(f"{name}: {word}")
        return given or (word or "")

    return _VARIABLE.sub(value, text)


def env_file(path: Path) -> dict[str, str]:
    """The variables of an env file."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def load(variables: Mapping[str, str]) -> dict[str, Any]:
    """compose.yaml with its variables filled in, each within its own value as Compose does it."""

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [filled(entry) for entry in value]
        return interpolated(value, variables) if isinstance(value, str) else value

    return filled(yaml.safe_load((DOCKER / "compose.yaml").read_text()))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass
class Host:
    """This machine in the place of all containers."""

    services: Mapping[str, Any]
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def port(self, service: str) -> int:
        return self.ports.setdefault(service, free_port())

    def local(self, text: str, service: str) -> str:
        """``text`` with this machine's addresses and paths for the containers'."""
        for name, port in (("postgres", 5432), ("prefect", 4200), ("mlflow", 5000)):
            text = text.replace(f"@{name}:{port}", f"@127.0.0.1:{self.port(name)}")
            text = text.replace(f"//{name}:{port}", f"//127.0.0.1:{self.port(name)}")
            text = re.sub(rf"\b(127\.0\.0\.1|localhost):{port}\b", rf"\1:{self.port(name)}", text)
            if service == name and text == str(port):
                text = str(self.port(name))
        text = text.replace("127.0.0.1:8080", f"127.0.0.1:{self.port(service)}")
        text = "127.0.0.1" if text == EVERYWHERE else text
        return text.replace("/outputs", str(self.folder / "outputs"))

    def command(self, words: Sequence[str], service: str) -> list[str]:
        return [self.local(word, service) for word in words]

    def environment(self, service: str) -> dict[str, str]:
        given = self.services[service].get("environment", {})
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_"))}
        return {
            **kept,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder / service),
            "PREFECT_HOME": str(self.folder / service),
            "PREFECT_WORKER_WEBSERVER_PORT": str(self.port(service)),
            "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
            "SECATEUR_HOME": str(self.folder / "outputs"),
            "DO_NOT_TRACK": "true",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "HF_HUB_OFFLINE": "1",
            **{name: self.local(str(value), service) for name, value in given.items()},
        }

    def log(self, service: str) -> Path:
        return self.folder / f"{service}.log"

    def start(self, service: str) -> subprocess.Popen[bytes]:
        """The service's command, exactly, in a process group of its own."""
        (self.folder / service).mkdir(exist_ok=True)
        with self.log(service).open("ab") as log:
            process = subprocess.Popen(
                self.command(self.services[service]["command"], service),
                env=self.environment(service), cwd=self.folder / service,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self.running[service] = process
        return process

    def healthy(self, service: str, seconds: float = 150) -> None:
        """Wait until the service's own health check succeeds."""
        kind, *check = self.services[service]["healthcheck"]["test"]
        assert kind == "CMD"
        deadline = time.monotonic() + seconds
        while True:
            answer = subprocess.run(
                self.command(check, service), env=self.environment(service),
                cwd=self.folder, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if answer.returncode == 0:
                return
            process = self.running.get(service)
            said = self.log(service).read_text()[-3000:] if self.log(service).is_file() else ""
            assert process is None or process.poll() is None, f"{service} ended: {said}"
            assert time.monotonic() < deadline, f"{service}: {answer.stderr[-500:]} {said}"
            time.sleep(0.5)

    def stop(self) -> None:
        for process in reversed(self.running.values()):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
