"""The embedded Prefect server: a child of this process that can not outlive it.

Prefect's own temporary server is left behind when its parent is killed hard. This one listens on a
socket that the parent opened, on loopback only, so there is no race for a port.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sqlite3
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from filelock import FileLock

from flows.compute.heartbeats import BEATING
from tasks.processes.lifeline import Child, end_with_parent

HOSTS = "SECATEUR_HOSTS"
"""The names that the server answers to, with commas; else those of the loopback interface."""
SILENT = {"DO_NOT_TRACK": "true", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
"""Environment of a Prefect that tells nobody that it is used."""
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0
_INTERRUPTED_SECONDS = 1.5
"""Who pressed Ctrl-C waits for no log line longer than this."""


class ServerError(RuntimeError):
    """The embedded server did not start; the message holds what it said."""


def prefect_environment(home: Path) -> dict[str, str]:
    """What Prefect's settings must be, wherever the user set nothing else."""
    defaults = {
        "PREFECT_HOME": str(home / "prefect"),
        _DATABASE: _own_database(home),
        **SILENT,
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    return {name: os.environ.get(name, value) for name, value in defaults.items()} | BEATING


_DATABASE = "PREFECT_API_DATABASE_CONNECTION_URL"


def _own_database(home: Path) -> str:
    return f"sqlite+aiosqlite:///{_own_file(home)}"


def _own_file(home: Path) -> Path:
    return home / "prefect" / "prefect.db"


def _fault_of(database: Path) -> str:
    """Why a file is no whole SQLite database; empty where it is, or is not there."""
    if not database.exists():
        return ""
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=1)) as connection:
            said = [row[0] for row in connection.execute("pragma quick_check(1)")]
    except sqlite3.OperationalError:  # such as a lock, which passes
        return ""
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if said == ["ok"] else str(said[0])


def own_database(home: Path) -> bool:
    """Whether a Prefect server of this process's environment would hold this home's runs alone."""
    return prefect_environment(home)[_DATABASE] == _own_database(home)


_LEAN = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}
"""Without the page and without the services that schedule runs: nothing needs them."""


class EmbeddedServer:
    """Starts at once, answers a few seconds later; ``wait`` until then.

    Args:
        home: holds the database, the logs and the locks.
        listener: where to listen; None: a free port of the loopback interface.
        settings: environment of the server that is not the home's.
    """

    def __init__(
        self,
        home: Path,
        listener: socket.socket | None = None,
        settings: Mapping[str, str] = _LEAN,
    ) -> None:
        self._database = _own_file(home) if own_database(home) else None
        name = "prefect-server.log" if listener is None else "up-prefect.log"
        self._log = home / "logs" / name
        self._log.parent.mkdir(parents=True, exist_ok=True)
        (home / "locks").mkdir(parents=True, exist_ok=True)
        self._lock = home / "locks" / "prefect-start.lock"
        listener = listener or socket.create_server(("127.0.0.1", 0))
        self.url = f"http://{reachable(listener.getsockname()[0])}:{listener.getsockname()[1]}/api"
        environment = {
            **os.environ,
            **prefect_environment(home),
            **settings,
            "PREFECT__SERVER_FINAL": "1",
        }
        environment.pop("PREFECT_API_URL", None)
        if settings is _LEAN:  # of one process, whose clients send no string
            environment.pop("PREFECT_SERVER_API_AUTH_STRING", None)
        with self._log.open("ab") as log:
            self._child = Child(
                [sys.executable, "-m", __name__, str(listener.fileno()), str(self._lock)],
                environment=environment,
                output=log,
                descriptors=[listener.fileno()],
            )
        listener.close()

    def wait(self) -> None:
        """Return once the server answers.

        Raises:
            ServerError: when it ends or stays silent.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.ended:
                break
            if self._answers():
                return
            time.sleep(0.1)
        if self._database and (fault := _fault_of(self._database)):
            raise ServerError(
                f"{self._database} is damaged: {fault}. Move it away, and the next start makes a "
                "new one: it holds Prefect's runs and schedules, and none of the results"
            )
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-5:])
        raise ServerError(f"the embedded Prefect server did not start; {self._log} ends:\n{tail}")

    @property
    def ended(self) -> bool:
        """Whether it is gone, however that came."""
        return self._child.ended

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:  # noqa: S310
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def stop(self) -> None:
        """End the server and wait for its end."""
        self._child.stop(_STOP_SECONDS)


def reachable(host: str) -> str:
    """The address under which this machine reaches a server that listens on ``host``."""
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else f"[{host}]" if ":" in host else host  # noqa: S104


@contextlib.contextmanager
def api(server: EmbeddedServer | None) -> Iterator[None]:
    """Use the embedded server, or where there is none, what PREFECT_API_URL names."""
    if server is None:
        yield
        return
    from prefect.settings import PREFECT_API_URL, temporary_settings

    server.wait()
    # For child processes as well as for this one.
    os.environ["PREFECT_API_URL"] = server.url
    try:
        with temporary_settings({PREFECT_API_URL: server.url}), _drained():
            yield
    finally:
        os.environ.pop("PREFECT_API_URL", None)


@contextlib.contextmanager
def _drained() -> Iterator[None]:
    """Send what Prefect still holds back, before the server goes, however the work ended."""
    seconds = _INTERRUPTED_SECONDS
    try:
        yield
        seconds = _STOP_SECONDS
    finally:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        EventsWorker.drain_all(timeout=seconds, at_exit=False)
        APILogWorker.drain_all(timeout=seconds, at_exit=False)


def _serve(descriptor: int, lock_path: Path) -> None:
    import uvicorn

    from flows.serve.gate import Gate
    from flows.serve.prefect_app import application
    from flows.serve.settings import LOOPBACK, host_names

    # Two processes that migrate one fresh database at once would break it.
    lock = FileLock(lock_path, thread_local=False)
    lock.acquire()
    given = os.environ.get(HOSTS)
    names = given.split(",") if given else host_names(LOOPBACK[0])
    app = Gate(application(), names)
    # Clients that keep their connection would hold it up; they have sent what they had.
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)

    def release_once_started() -> None:
        while not server.started:
            time.sleep(0.05)
        lock.release()

    def finish() -> None:
        server.should_exit = True
        # The database is transactional, so a server that does not stop in time may be cut off.
        time.sleep(_STOP_SECONDS / 2)

    threading.Thread(target=release_once_started, daemon=True).start()
    end_with_parent(finish)
    server.run(sockets=[socket.socket(fileno=descriptor)])
    # Its threads would be waited for, and its modules torn down, for seconds.
    os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), Path(sys.argv[2]))
