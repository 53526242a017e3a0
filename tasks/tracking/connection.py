"""Opens an experiment: the environment, the SQLite file, the experiment itself."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from tasks.processes.signals import undivided
from tasks.runtime.variables import variable_set
from tasks.tracking.addresses import DATABASES, address_of, scheme
from tasks.tracking.names import clean_name
from tasks.tracking.outages import TrackingUnavailableError, locked, outages_surfaced
from tasks.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    # MLflow also repeats a POST that timed out, which makes a second run. Here a lost answer is an
    # error, and the next attempt finds the run by its tags.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}
"""Set before mlflow is imported, where the user has not set them."""

_HURRIED_SECONDS = "2"

_log = logging.getLogger(__name__)


def connect(uri: str | None, home: Path, experiment: str) -> Tracker:
    """Opens ``experiment`` at ``uri``, creating what is missing.

    Args:
        uri: tracking URI; None: ``MLFLOW_TRACKING_URI``, else the SQLite file ``home/mlflow.db``.
        home: folder of the SQLite file, its artifacts (``mlartifacts``) and the locks.
        experiment: the experiment's name; a deleted one of that name is restored with its runs.

    Raises:
        TrackingUnavailableError: no answer, or a server error. A refusal (4xx) or an unusable URI
            raises what mlflow raises.
    """
    home = home.resolve()
    uri = prepare(uri, home)
    with outages_surfaced(uri):
        from mlflow import MlflowClient

        with locked(home, uri, "mlflow"):
            _initialise_sqlite(uri, home)
            client = MlflowClient(tracking_uri=uri)
            if scheme(uri) in DATABASES:
                client = cast(MlflowClient, _Undivided(client))
            found = _experiment_id(client, uri, home, experiment)
    return Tracker(client, uri, home, found)


class _Undivided:
    """A client of a database whose calls a signal does not cut in two.

    A session of SQLAlchemy into whose commit an exception comes can neither commit nor roll back:
    its connection keeps the database's lock, and this process could not write its own end.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        if name == "_client":  # of a copy that is still being made
            raise AttributeError(name)
        call = getattr(self._client, name)
        if not callable(call):
            return call

        @functools.wraps(call)
        def undividedly(*args: Any, **kwargs: Any) -> Any:
            with undivided():
                return call(*args, **kwargs)

        return undividedly


def prepare(uri: str | None, home: Path) -> str:
    """The address to open, once MLflow's settings are made and a database server listens there.

    Raises:
        TrackingUnavailableError: nothing listens.
    """
    address = address_of(uri, home)
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)  # what they raise is told once
    kind, host = scheme(address), urlsplit(address).hostname
    if kind in DATABASES and host:
        # MLflow would try to connect fifteen times, each after twice the time of the one before.
        place = (host, urlsplit(address).port or DATABASES[kind])
        try:
            socket.create_connection(place, timeout=3).close()
        except OSError as error:
            raise TrackingUnavailableError(address, str(error)) from error
    return address


def hurried() -> AbstractContextManager[None]:
    """Wait for no answer of a server longer than somebody waits who pressed Ctrl-C."""
    return variable_set("MLFLOW_HTTP_REQUEST_TIMEOUT", _HURRIED_SECONDS)


def initialise(home: Path | str) -> None:
    """Makes the SQLite file of a home, for a server that is started on it.

    Raises:
        TrackingUnavailableError: the file is there and no database.
    """
    home = Path(home).resolve()
    uri = prepare(f"sqlite:///{home / 'mlflow.db'}", home)
    with outages_surfaced(uri), locked(home, uri, "mlflow"):
        _initialise_sqlite(uri, home)


def _initialise_sqlite(uri: str, home: Path) -> None:
    """Makes a missing SQLite file, whole or not at all: MLflow cannot resume its migrations."""
    path = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if not uri.startswith("sqlite:///") or path.name in ("", ":memory:"):
        return
    if path.exists() and path.stat().st_size:
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=20)) as connection:
                connection.execute("select name from sqlite_master limit 1").fetchall()
        except sqlite3.Error as error:  # MLflow would try for two minutes
            hint = ""
            if not isinstance(error, sqlite3.OperationalError):  # such as a lock, which passes
                hint = f"; move {path} away, and the next run makes a new one and logs its sweep"
            raise TrackingUnavailableError(uri, f"{error}{hint}") from error
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    for leftover in (partial, partial.with_name(f"{partial.name}-journal")):
        leftover.unlink(missing_ok=True)
    store = SqlAlchemyStore(f"sqlite:///{partial}", (home / "mlartifacts").as_uri())
    store.engine.dispose()
    partial.replace(path)


def _experiment_id(client: MlflowClient, uri: str, home: Path, name: str) -> str:
    """Id of the experiment, created or restored."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # With a database, artifacts go straight to the home, and a server that is started on the
        # database later reads them there. A server has its own place for them.
        folder = home / "mlartifacts" / clean_name(name).replace("/", "_")
        location = folder.as_uri() if scheme(uri) in DATABASES else None
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            found = client.get_experiment_by_name(name)  # another process may have been first
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
    if found.lifecycle_stage == "deleted":
        _log.warning("MLflow's experiment %s had been deleted; it is restored.", name)
        client.restore_experiment(found.experiment_id)
    return found.experiment_id
