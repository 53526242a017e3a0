"""The processes of ``secateur up``: how each is started, and how it is told to end."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from configs.errors import ConfigurationError
from flows.server import reachable

_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN")
IPV6 = "[::1]"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Service:
    """A command under a guard: it ends when ``stop`` is called or this process is gone."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.guard", sys.executable, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self, seconds: float) -> None:
        """End it and wait for its end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What servers get to see: they need no token of the hub."""
    return {name: value for name, value in environment.items() if name not in _SECRETS}


def listen(host: str, port: int, option: str) -> socket.socket:
    """A socket on ``host:port``.

    Raises:
        ConfigurationError: when the port is taken or the host is none of this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno in (99, 49):
            allowed = "it must be a name or address of this machine"
            raise ConfigurationError("--host", host, allowed, str(error)) from error
        allowed = f"the port cannot be used on {host}: {error.strerror}"
        hint = f"Another program listens there; end it, or choose another port with {option}"
        raise ConfigurationError(option, port, allowed, hint) from error


def mlflow_command(host: str, port: int, home: Path, names: Sequence[str]) -> list[str]:
    """The MLflow server on one worker; its database comes by the environment."""
    allowed = [f"{name}:{port}" for name in names]
    origins = [f"http://{name}" for name in allowed]
    return [
        "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1",
        "--artifacts-destination", (home / "mlartifacts").as_uri(),
        "--allowed-hosts", ",".join([*allowed, *names]),
        "--cors-allowed-origins", ",".join(origins),
    ]  # fmt: skip


def mlflow_environment(home: Path) -> dict[str, str]:
    """Of the MLflow server: no telemetry, no process for jobs, and the database without argv."""
    given = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
    return {
        "MLFLOW_BACKEND_STORE_URI": given,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def external_mlflow() -> str:
    """The tracking server that MLFLOW_TRACKING_URI names; empty when ``up`` starts one."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    return given if urlsplit(given).scheme in ("http", "https") else ""


def host_names(host: str) -> list[str]:
    """By what names a browser may call a server on ``host``: MLflow answers to no other."""
    if host in LOOPBACK:
        return ["127.0.0.1", "localhost", IPV6]
    names = ["127.0.0.1", "localhost", reachable(host), socket.gethostname(), socket.getfqdn()]
    with contextlib.suppress(OSError):
        names += socket.gethostbyname_ex(socket.gethostname())[2]
    return list(dict.fromkeys(names))
