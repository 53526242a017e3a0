"""The three children of ``secateur up``: how they start, what is said of them, how they end."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from flows.serve import running
from flows.serve.access import ALLOW_TRUST, DATA
from flows.serve.embedded import HOSTS, EmbeddedServer, ServerError, prefect_environment
from flows.serve.lost_runs import close_abandoned, close_lost
from flows.serve.proxies import reach_directly
from flows.serve.registration import POOL
from flows.serve.running import Running, answers
from flows.serve.service import Service
from flows.serve.settings import (
    external_mlflow,
    host_names,
    mlflow_command,
    mlflow_environment,
    without_secrets,
)
from flows.serve.supervision import Restarts
from tasks.processes.call import CallError, call
from tasks.runtime.links import MLFLOW_URL, PREFECT_URL

_START_SECONDS = 180.0
_STOP_SECONDS = 15.0
_WORKER = f"secateur up on {socket.gethostname()}"


@dataclass(frozen=True, kw_only=True)
class UpOptions:
    """What ``secateur up`` was asked for."""

    host: str = "127.0.0.1"
    prefect_port: int = 4200
    mlflow_port: int = 5000
    data: Path = Path("data")
    allow_trust: bool = False
    limit: int = 2
    names: tuple[str, ...] = ()


def say(console: Console, text: str) -> None:
    """Print where that is still possible."""
    # A closed terminal is one of the reasons to end.
    with contextlib.suppress(OSError):
        console.print(text, highlight=False, soft_wrap=True)


def _call(function: str, job: str, environment: Mapping[str, str], work: str) -> Any:
    """What a function returns in a process of its own, so that this one stays small.

    Raises:
        ServerError: it failed.
    """
    try:
        return call(function, job, work=work, environment=environment)[0]
    except CallError as error:
        raise ServerError(str(error)[-2000:]) from error


class Services:
    """The three children, in the order in which they start; they end in the opposite one."""

    def __init__(self, options: UpOptions, root: Path, record: Running, console: Console) -> None:
        self.options, self.root, self.record, self.console = options, root, record, console
        self.api = f"{record.prefect}/api"
        self.server: EmbeddedServer | None = None
        self.mlflow: Service | None = None
        self.worker: Service | None = None
        self.deployments: dict[str, str] = {}
        names = host_names(options.host, options.names)
        reach_directly([name.strip("[]") for name in names])
        self.environment = {
            **os.environ,
            **prefect_environment(root),
            running.TOKEN: record.token,
            "SECATEUR_HOME": str(root),
            PREFECT_URL: record.prefect,
            HOSTS: ",".join(names),
        }
        self.server_settings = {
            **self.environment,
            "PREFECT_UI_ENABLED": "1",
            "PREFECT_UI_API_URL": "/api",
            "PREFECT_UI_STATIC_DIRECTORY": str(root / "prefect" / "ui"),
        }

    def start(self, listener: socket.socket) -> None:
        """Start all and return when they answer.

        Raises:
            ServerError: one ended or stayed silent.
        """
        with self.console.status("starting Prefect and MLflow"):
            self.server = EmbeddedServer(self.root, listener, without_secrets(self.server_settings))
            listener.close()
            if not external_mlflow():
                self._start_mlflow()
            self.server.wait()
            self._close_lost("was killed")
            with contextlib.suppress(OSError, ValueError):
                close_abandoned(self.api)
            self.deployments = self._registered()
            self._start_worker()
            self._wait_for_mlflow()

    def _start_mlflow(self) -> None:
        if not os.environ.get("MLFLOW_TRACKING_URI"):
            self._initialise_mlflow()
        options = self.options
        command = mlflow_command(options.host, options.mlflow_port)
        environment = without_secrets(self.environment) | mlflow_environment(self.root)
        log = self.root / "logs" / "up-mlflow.log"
        self.mlflow = Service("MLflow server", command, environment, log)

    def _initialise_mlflow(self) -> None:
        """Make the database whole before a server opens it; two at once would break it."""
        if (self.root / "mlflow.db").exists():
            return
        _call(
            "tasks.tracking:initialise",
            str(self.root),
            self.environment,
            "making MLflow's database",
        )

    def _served(self) -> dict[str, str]:
        """Environment of what runs sweeps."""
        return {
            **self.environment,
            "PREFECT_API_URL": self.api,
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_LOGGING_EXTRA_LOGGERS": "secateur",
            MLFLOW_URL: self.record.mlflow,
            DATA: str(self.options.data.expanduser().absolute()),
            ALLOW_TRUST: "1" if self.options.allow_trust else "0",
        }

    def _registered(self) -> dict[str, str]:
        return _call(
            "flows.serve.registration:register", POOL, self._served(), "making the deployments"
        )

    def _start_worker(self) -> None:
        command = [
            "-m", "flows.serve.worker", "--pool", POOL,
            "--limit", str(self.options.limit), "--name", _WORKER,
        ]  # fmt: skip
        log = self.root / "logs" / "up-worker.log"
        self.worker = Service("worker", command, self._served(), log)

    def _wait_for_mlflow(self) -> None:
        if self.mlflow is None:
            return
        deadline = time.monotonic() + _START_SECONDS
        while not answers(f"{self.record.mlflow}/health"):
            if self.mlflow.ended or time.monotonic() > deadline:
                raise ServerError(
                    f"the MLflow server did not start; {self.mlflow.log} ends:\n"
                    f"{self.mlflow.tail()}"
                )
            time.sleep(0.1)

    def announce(self) -> None:
        """Print the addresses and what to do next."""
        form = f"{self.record.prefect}/v2/deployments/deployment/{self.deployments['sweep']}/run"
        data = self.options.data.expanduser().absolute()
        known = "" if data.is_dir() else ", which does not exist yet"
        self.console.print(
            f"secateur is up; everything is below {self.root}\n\n"
            f"  Prefect  {self.record.prefect}   start, schedule and watch sweeps\n"
            f"  MLflow   {self.record.mlflow}   compare them\n\n"
            f"Next:\n  {form}\n"
            "      the sweep form: Run with nothing changed is the quickstart\n"
            f"      files and folders that a form names lie below {data}{known}\n"
            "  Ctrl-C ends both servers",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )

    def _close_lost(self, what: str) -> None:
        # A run that stays open in the page is no reason not to start or end.
        with contextlib.suppress(OSError, ValueError):
            close_lost(self.api, POOL, _WORKER, f"secateur up {what}; run it again to go on")

    def watch(self) -> None:
        """Start again what ends by itself; return when that is of no use."""
        mlflow, worker = Restarts(), Restarts()
        while self.server and not self.server.ended:
            if self.mlflow and not self._kept_up(self.mlflow, mlflow, self._start_mlflow):
                return
            if self.worker and not self._kept_up(self.worker, worker, self._restart_worker):
                return
            time.sleep(0.3)
        log = self.root / "logs" / "up-prefect.log"
        say(self.console, f"the Prefect server ended by itself; {log} says more")

    def _kept_up(self, service: Service, restarts: Restarts, start: Callable[[], None]) -> bool:
        """Whether a service runs, or will: one that has ended is started again in its time."""
        if not service.ended or restarts.ended() > 0:
            return True
        ended = f"the {service.name} ended by itself; {service.log} says more"
        if restarts.hopeless:
            say(self.console, f"{ended}. It was started {restarts.count} times in vain")
            return False
        say(self.console, f"{ended}; it is started again")
        start()
        restarts.started()
        return True

    def _restart_worker(self) -> None:
        self._close_lost("lost its worker")  # whose runs ended with it
        self._start_worker()

    def stop(self) -> None:
        """End what was started: first what runs sweeps, and its runs' states, then the servers."""
        if self.worker:
            self.worker.stop(_STOP_SECONDS)
        if self.server and not self.server.ended:
            self._close_lost("was ended")
        if self.mlflow:
            self.mlflow.stop(_STOP_SECONDS)
        if self.server:
            self.server.stop()
        self.record.kill_rest()
