"""What the servers of ``secateur up`` are told: names, databases, no secret they do not need."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from flows.serve.embedded import reachable

_SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What servers get to see: they need no token of the hub."""
    return {name: value for name, value in environment.items() if name not in _SECRETS}


def mlflow_command(host: str, port: int) -> list[str]:
    """The MLflow server; its database and its names come by the environment."""
    return ["-m", "flows.serve.standing", "mlflow", host, str(port)]


def mlflow_environment(home: Path) -> dict[str, str]:
    """Of the MLflow server: its data, without argv; no telemetry, no process for jobs."""
    given = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
    return {
        "MLFLOW_BACKEND_STORE_URI": given,
        "MLFLOW_ARTIFACTS_DESTINATION": (home / "mlartifacts").as_uri(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def external_mlflow() -> str:
    """The tracking server that MLFLOW_TRACKING_URI names; empty when ``up`` starts one."""
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    return given if urlsplit(given).scheme in ("http", "https") else ""


def host_names(host: str, further: Sequence[str] = ()) -> list[str]:
    """By what names a browser may call a server on ``host``: both servers answer to no other.

    Else a page of another site, whose name is made to lead to this machine, could.
    """
    if host in LOOPBACK:
        return ["127.0.0.1", "localhost", "[::1]", *further]
    names = ["127.0.0.1", "localhost", reachable(host), socket.gethostname(), socket.getfqdn()]
    with contextlib.suppress(OSError):
        names += socket.gethostbyname_ex(socket.gethostname())[2]
    return list(dict.fromkeys([*names, *further]))
