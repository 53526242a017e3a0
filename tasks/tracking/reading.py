"""Reads one run back from the tracking server; writes nothing, not even an empty database."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.runtime.links import redacted
from tasks.tracking.connection import prepare
from tasks.tracking.outages import outages_surfaced


class NoSuchRunError(LookupError):
    """The server has no such run."""


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """What MLflow holds of a run.

    Attributes:
        name: as the dashboard shows it.
        server: its address, without credentials.
        kind: ``cell``, ``dense``, ``sweep`` or ``curve``; empty for a run that is not ours.
        metrics: the latest value of each.
        children: of a sweep's run: (run id, name) of its rows.
    """

    name: str
    server: str
    kind: str
    status: str
    params: dict[str, str]
    metrics: dict[str, float]
    children: tuple[tuple[str, str], ...] = ()


def read_run(run_id: str, home: Path, *, uri: str | None = None) -> RecordedRun:
    """A run with its params and metrics.

    Args:
        uri: tracking URI; None: ``MLFLOW_TRACKING_URI``, else the SQLite file ``home/mlflow.db``.

    Raises:
        NoSuchRunError: there is no such run, or no database yet.
        TrackingUnavailableError: the server does not answer.
    """
    address = prepare(uri, home)
    if address.startswith("sqlite:///"):
        path = Path(address.removeprefix("sqlite:///").partition("?")[0])
        if not path.is_file():
            raise NoSuchRunError(f"there is no MLflow database {path}")
    with outages_surfaced(address):
        return _read(run_id, address)


def _read(run_id: str, address: str) -> RecordedRun:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(tracking_uri=address)
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NoSuchRunError(f"MLflow at {redacted(address)} has no run {run_id}") from error
        raise
    kind = run.data.tags.get("secateur.kind", "")
    children: list[tuple[str, str]] = []
    if kind == "sweep":
        chosen = f"tags.`mlflow.parentRunId` = '{run_id}' and tags.`secateur.kind` != 'curve'"
        found = client.search_runs([run.info.experiment_id], chosen, max_results=200)
        children = [(child.info.run_id, child.info.run_name or "") for child in found]
    return RecordedRun(
        name=run.info.run_name or run_id,
        server=redacted(address),
        kind=kind,
        status=run.info.status,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        children=tuple(sorted(children, key=lambda child: child[1])),
    )
