"""MLflow: one run a sweep, one child a cell, one child a curve, each written once.

The only file that imports mlflow, and only where it is used: the import takes seconds. Everything
goes through ``MlflowClient``, never through the fluent interface and its process-wide active run.

MLflow has no unique key for a run, so identity lives in tags: ``secateur.kind``,
``secateur.sweep`` (the sweep's fingerprint), ``secateur.row`` (model, method, target and seed) and
``secateur.cell`` (the row's fingerprint). A writer takes a file lock in the home, looks the run up
by its tags and creates it only when there is none. What is written twice stays once: a metric point
that is there already is not sent again. A killed process leaves its run RUNNING, and the next one
completes that same run.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import hashlib
import json
import logging
import math
import os
import re
import shutil
import socket
import sqlite3
import ssl
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

AXES = ("model", "method", "target", "seed", "status")
DURATIONS = ("calibration_seconds", "prune_seconds", "evaluate_seconds")
LOCK_SECONDS = 300.0
DATABASES = {"sqlite": None, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Scheme → default port."""
PARENT = "mlflow.parentRunId"
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

Points = Mapping[str, Sequence[tuple[int, float]]]
"""Metric name → (step, value)."""
P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger(__name__)


class TrackingUnavailableError(RuntimeError):
    """The tracking server cannot be reached, does not answer, or answers with a server error.

    Args:
        uri: the tracking URI; credentials in it are dropped.
        reason: what happened, as a phrase.
    """

    def __init__(self, uri: str, reason: str) -> None:
        self.uri = _without_credentials(uri)
        self.reason = _without_credentials(reason)
        super().__init__(f"MLflow at {self.uri} is not available: {self.reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.uri, self.reason))


@dataclass(frozen=True, kw_only=True)
class SweepIdentity:
    """What tells one sweep from another, and what describes it."""

    name: str
    """The run's name."""
    fingerprint: str
    """SHA-256 of what determines the sweep: the same sweep is the same run."""
    config_yaml: str
    """The sweep as resolved; logged as config.yaml."""
    axes: Mapping[str, str]
    """Models, methods, targets, seeds, dtype …, each as one text; logged as params."""


@dataclass(frozen=True, kw_only=True)
class InputRecord:
    """Something a row was computed from, shown by MLflow among the run's datasets."""

    name: str
    """Corpus or model."""
    digest: str
    """Its full digest; MLflow's own field holds the first 36 characters."""
    source: str
    """Where it came from, such as ``hub:Salesforce/wikitext``."""
    context: str
    """calibration, evaluation or model."""


def connect(
    uri: str | None, home: Path, experiment: str, *, timeout_seconds: float = 3.0
) -> Tracker:
    """Opens ``experiment`` at ``uri``, creating what is missing.

    Args:
        uri: tracking URI; None: ``MLFLOW_TRACKING_URI``, else the SQLite file ``home/mlflow.db``.
        home: folder of the SQLite file, its artifacts (``mlartifacts``) and the locks.
        experiment: the experiment's name; a deleted one of that name is restored with its runs.
        timeout_seconds: how long the server may take to give its first sign of life.

    Raises:
        TrackingUnavailableError: no answer, or a server error. A refusal (4xx) or an unusable URI
            raises what mlflow raises.
    """
    home = home.resolve()
    given = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
    uri = _lend_credentials(given)
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _probe(uri, timeout_seconds)

    with _surfaced(uri):
        from mlflow import MlflowClient

        with _locked(home, uri, "mlflow"):
            _initialise_sqlite(uri, home)
            client = MlflowClient(tracking_uri=uri)
            found = _experiment_id(client, uri, home, experiment)
    return Tracker(client, uri, home, found)


def initialise(home: Path) -> None:
    """Makes the SQLite file of a home, for a server that is started on it.

    Raises:
        TrackingUnavailableError: the file is there and no database.
    """
    home = home.resolve()
    uri = f"sqlite:///{home / 'mlflow.db'}"
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    with _surfaced(uri), _locked(home, uri, "mlflow"):
        _initialise_sqlite(uri, home)


def _surfacing(
    method: Callable[Concatenate[Tracker, P], R],
) -> Callable[Concatenate[Tracker, P], R]:
    """Turns an outage inside a method of Tracker into TrackingUnavailableError."""

    @functools.wraps(method)
    def surfaced(self: Tracker, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with _surfaced(self.uri):
            return method(self, *args, **kwargs)

    return surfaced


class Tracker:
    """One experiment, open for writing. Made by ``connect``; every method may be repeated."""

    def __init__(self, client: MlflowClient, uri: str, home: Path, experiment_id: str) -> None:
        self.client = client
        self.uri = uri
        self.home = home
        self.experiment_id = experiment_id

    @_surfacing
    def begin_sweep(self, sweep: SweepIdentity) -> str:
        """Run id of the sweep's parent run, which is RUNNING afterwards.

        A deleted parent is restored: its children would otherwise hang on nothing.
        """
        identity = {"secateur.kind": "sweep", "secateur.sweep": sweep.fingerprint}
        described = [f"- {axis}: {values}" for axis, values in sweep.axes.items()]
        tags = identity | {"mlflow.note.content": "\n".join([f"**{sweep.name}**\n", *described])}
        with self._locked("sweep", sweep.fingerprint):
            runs = self._runs(identity, deleted_too=True)
            active = [run for run in runs if run.info.lifecycle_stage == "active"]
            run = (active or runs or [None])[0]
            if run is None:
                run = self._created(sweep.name, tags)
            elif not active:
                self.client.restore_run(run.info.run_id)
            self.client.update_run(run.info.run_id, status="RUNNING", name=sweep.name)
            # An axis that changed keeps its first value: MLflow has no way to change a param.
            self._describe(run, sweep.axes, tags)
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "config.yaml"
            config.write_text(sweep.config_yaml, encoding="utf-8")
            self._upload(run, {"config.yaml": config})
        return run.info.run_id

    @_surfacing
    def logged(self, parent_run_id: str, rows: Sequence[Mapping[str, Any]] = ()) -> dict[str, str]:
        """Fingerprint → run id of the rows that are completely logged.

        With ``rows``, those whose status has changed since are left out: a cell that failed
        before and is completed now has to be logged again.
        """
        runs = {
            run.data.tags["secateur.row"]: run
            for run in self._runs({PARENT: parent_run_id})
            if "secateur.row" in run.data.tags and run.info.status in ("FINISHED", "FAILED")
        }
        stale = {
            _cell(row)
            for row in rows
            if (run := runs.get(_identity(row))) is None
            or run.data.tags.get("status") != row["status"]
        }
        logged = {run.data.tags["secateur.cell"]: run.info.run_id for run in runs.values()}
        return {cell: run_id for cell, run_id in logged.items() if cell not in stale}

    @_surfacing
    def log_row(
        self,
        parent_run_id: str,
        row: Mapping[str, Any],
        *,
        inputs: Sequence[InputRecord] = (),
        extra_params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        files: Mapping[str, Path] | None = None,
        history: Sequence[tuple[int, Mapping[str, float]]] = (),
    ) -> str:
        """Run id of the child run that holds ``row``, one row of results.csv.

        Numbers become metrics at step round(100·sparsity); a figure that is not finite becomes
        ``diverged`` = 1. A run of the same row is completed rather than repeated. One with another
        fingerprint or other params (it had failed, say) is deleted and made anew, since MLflow can
        neither change a param nor take a metric back.

        Args:
            files: path in the run's artifacts → file or folder.
            history: figures of training by step; the run ends only when they are all there.
        """
        axes = {axis: str(row[axis]) for axis in AXES if row.get(axis) not in (None, "")}
        params = {
            _name(key): _cut(str(value)) for key, value in (axes | dict(extra_params or {})).items()
        }
        seconds = sum(value for key, value in _metrics(row).items() if key in DURATIONS)
        place = {PARENT: parent_run_id, "secateur.row": _identity(row)}
        identity = {**place, "secateur.cell": _cell(row)}
        with self._locked("row", "".join(place.values())):
            run = self._reopened(place, identity, params)
            if run is None:
                run = self._created(_title(row), identity, seconds)
            sweep = self._sweep_tag(parent_run_id)
            self._describe(run, params, {**axes, **_row_tags(row), **sweep, **(tags or {})})
            step = round(100 * float(row.get("sparsity") or 0))
            self._append(run, {key: [(step, value)] for key, value in _metrics(row).items()})
            self._record_inputs(run, inputs)
            self._upload(run, files or {})
            if history:
                self.log_history(run.info.run_id, history)
            status = "FAILED" if row["status"] == "failed" else "FINISHED"
            end = run.info.start_time + round(1000 * seconds)
            self.client.set_terminated(run.info.run_id, status, end_time=end)
        return run.info.run_id

    @_surfacing
    def log_curves(self, parent_run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Perplexity against sparsity: a child run for each (model, method, seed, kind of target).

        The step is round(100·sparsity), so the chart view draws the curve by itself; the dense
        model is step 0. ``rows`` are all of the sweep: a curve with points that they no longer
        hold is deleted and made anew.
        """
        with self._locked("curves", parent_run_id):
            runs = self._runs({PARENT: parent_run_id, "secateur.kind": "curve"})
            existing = {run.data.tags.get("secateur.curve"): run for run in runs}
            sweep = self._sweep_tag(parent_run_id)
            for axes, points in _curves(rows).items():
                model, method, seed, kind = axes
                params = {"model": model, "method": method, "seed": seed, "targets": kind}
                curve = _digest(*axes)
                run = existing.get(curve)
                if run is not None and self._holds_other_points(run, points):
                    self.client.delete_run(run.info.run_id)
                    run = None
                if run is None:
                    run = self._created(
                        f"curve · {method} · {kind} · {_short(model)} · seed {seed}",
                        {PARENT: parent_run_id, "secateur.kind": "curve", "secateur.curve": curve},
                    )
                self._append(run, points)
                self._describe(run, params, {**params, **sweep})
                self.client.set_terminated(run.info.run_id)

    @_surfacing
    def log_history(self, run_id: str, history: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Figures of training, step by step; what is there already is not logged again."""
        points: dict[str, list[tuple[int, float]]] = {}
        for step, figures in history:
            for key, value in _metrics(figures).items():
                points.setdefault(key, []).append((step, value))
        self._append(self.client.get_run(run_id), points)

    @_surfacing
    def close_sweep(self, parent_run_id: str) -> bool:
        """End the run of a sweep with nothing new; False when its report is missing."""
        if "secateur.reported" not in self.client.get_run(parent_run_id).data.tags:
            return False
        self.client.set_terminated(parent_run_id, "FINISHED")
        return True

    @_surfacing
    def finish_sweep(
        self, parent_run_id: str, rows: Sequence[Mapping[str, Any]], folder: Path, status: str
    ) -> None:
        """Uploads the report, logs the summary and ends the sweep's run.

        The run is FAILED when no cell completed; ``status``, the sweep's own word for how it
        ended, becomes the tag ``status``. The summary counts cells and gives the lowest
        perplexity of each method, over all of its targets.
        """
        run = self.client.get_run(parent_run_id)
        cells = [row for row in rows if row["method"] != "dense"]
        counts = Counter(row["status"] for row in cells)
        summary = {
            f"cells_{word}": float(counts[word]) for word in ("completed", "failed", "skipped")
        }
        for row in (row for row in cells if row["status"] == "completed"):
            for key, value in _metrics(row).items():
                if key.startswith("perplexity/"):
                    best = f"best_{key}/{_name(row['method'])}"
                    summary[best] = min(value, summary.get(best, value))
        self._append(run, {key: [(0, value)] for key, value in summary.items()})
        self._describe(run, {}, {"status": status})
        names = ("report.md", "results.csv", "results.json", "config.yaml")
        files = {name: folder / name for name in names if (folder / name).is_file()}
        files |= {f"plots/{plot.name}": plot for plot in sorted((folder / "plots").glob("*.png"))}
        self._upload(run, files)
        # Last: a run without it was cut off, and is finished by the next run of the same sweep.
        self._describe(run, {}, {"secateur.reported": "true"})
        self.client.set_terminated(parent_run_id, "FINISHED" if counts["completed"] else "FAILED")

    def experiment_url(self, base: str, sweep: str | None = None) -> str:
        """The experiment's charts in the dashboard at ``base``; of one sweep, by fingerprint."""
        chosen = quote(f"tags.`secateur.sweep` = '{sweep}'", safe="") if sweep else ""
        address = f"{_without_credentials(base).rstrip('/')}/#/experiments/{self.experiment_id}"
        return f"{address}/runs?searchFilter={chosen}&compareRunsMode=CHART"

    def compare_url(self, base: str, run_ids: Sequence[str]) -> str:
        """The page of the dashboard at ``base`` that compares runs."""
        runs = quote(json.dumps(list(run_ids), separators=(",", ":")), safe="")
        experiments = quote(json.dumps([self.experiment_id]), safe="")
        address = _without_credentials(base).rstrip("/")
        return f"{address}/#/compare-runs?runs={runs}&experiments={experiments}"

    def _locked(self, kind: str, key: str = "") -> contextlib.AbstractContextManager[Any]:
        # 256 files at most, however many cells; two cells that share one merely wait.
        return _locked(self.home, self.uri, f"mlflow-{kind}-{_digest(key)[:2]}")

    def _sweep_tag(self, parent_run_id: str) -> dict[str, str]:
        tags = self.client.get_run(parent_run_id).data.tags
        return {"secateur.sweep": tags.get("secateur.sweep", "")}

    def _runs(self, tags: Mapping[str, str], *, deleted_too: bool = False) -> list[Run]:
        """All runs with these tags, oldest first."""
        from mlflow.entities import ViewType

        view = ViewType.ALL if deleted_too else ViewType.ACTIVE_ONLY
        chosen = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], chosen, view, 1000, ["attributes.start_time ASC"], token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _reopened(
        self, place: Mapping[str, str], tags: Mapping[str, str], params: Mapping[str, str]
    ) -> Run | None:
        """The one run in this place that agrees, RUNNING again; any other there is deleted."""
        kept = None
        for run in self._runs(place):
            agrees = all(run.data.tags.get(key) == value for key, value in tags.items()) and all(
                run.data.params.get(key, value) == value for key, value in params.items()
            )
            if agrees and kept is None:
                kept = run
            else:
                self.client.delete_run(run.info.run_id)
        if kept is not None:
            self.client.update_run(kept.info.run_id, status="RUNNING")
        return kept

    def _created(self, name: str, tags: Mapping[str, str], seconds: float = 0) -> Run:
        """A new run that began ``seconds`` ago, for MLflow's duration to be the work's."""
        origin = {"mlflow.source.name": "secateur", "mlflow.source.type": "LOCAL"}
        with contextlib.suppress(OSError, KeyError, ImportError):  # a container's nameless user
            origin["mlflow.user"] = getpass.getuser()
        cut = {key: _cut(value) for key, value in (origin | dict(tags)).items()}
        began = round(1000 * (time.time() - seconds))
        return self.client.create_run(self.experiment_id, began, cut, name)

    def _describe(self, run: Run, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Adds params that are missing and sets tags."""
        from mlflow.entities import Param, RunTag

        named = {_name(key): _cut(value) for key, value in params.items()}
        new = [Param(key, value) for key, value in named.items() if key not in run.data.params]
        marks = [RunTag(_name(key), _cut(value)) for key, value in tags.items()]
        for at in range(0, max(len(new), len(marks)), 100):
            part = {"params": new[at : at + 100], "tags": marks[at : at + 100]}
            self.client.log_batch(run.info.run_id, **part)

    def _history(self, run: Run, name: str) -> list[Any]:
        if name not in run.data.metrics:  # which saves a request for each metric of a new run
            return []
        return self.client.get_metric_history(run.info.run_id, name)

    def _append(self, run: Run, points: Points) -> None:
        """Logs the points that the run does not hold yet.

        They bear the time the run began, so that a repetition is the same row of the database. A
        new value at an old step bears a later one: MLflow shows the latest, and of two at the same
        time the larger.
        """
        from mlflow.entities import Metric

        new = []
        for name, entries in points.items():
            held: dict[int, list[Any]] = {}
            for metric in self._history(run, name):
                held.setdefault(metric.step, []).append(metric)
            for step, value in entries:
                there = held.get(step, [])
                if all(metric.value != value for metric in there):
                    latest = max((metric.timestamp + 1 for metric in there), default=0)
                    new.append(Metric(name, value, max(run.info.start_time, latest), step))
        for at in range(0, len(new), 1000):
            self.client.log_batch(run.info.run_id, metrics=new[at : at + 1000])

    def _holds_other_points(self, run: Run, points: Points) -> bool:
        held = {
            (name, metric.step, metric.value)
            for name in run.data.metrics
            for metric in self._history(run, name)
        }
        return not held <= {(name, *entry) for name, entries in points.items() for entry in entries}

    def _record_inputs(self, run: Run, inputs: Sequence[InputRecord]) -> None:
        """Datasets of the run. A repetition adds nothing: MLflow matches name and digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        records = []
        for entry in inputs:
            source = json.dumps({"source": entry.source, "digest": entry.digest})
            dataset = Dataset(entry.name[:500], entry.digest[:36], "secateur", source)
            records.append(DatasetInput(dataset, [InputTag("mlflow.data.context", entry.context)]))
        if records:
            with self._locked("inputs"):  # two runs that add the same dataset at once would clash
                self.client.log_inputs(run.info.run_id, records)

    def _upload(self, run: Run, files: Mapping[str, Path]) -> None:
        """Puts files under the names given; a later upload replaces an earlier one."""
        if not files:
            return
        with tempfile.TemporaryDirectory() as folder:
            staging = Path(folder) / "artifacts"
            for name, path in files.items():
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if path.is_dir() else shutil.copyfile
                copy(path, staging / name)
            place = urlsplit(str(run.info.artifact_uri))
            if place.scheme == "mlflow-artifacts" and _scheme(self.uri) in DATABASES:
                # An experiment that a server on this home made: where it would put them itself.
                target = self.home / "mlartifacts" / place.path.lstrip("/")
                shutil.copytree(staging, target, dirs_exist_ok=True)
            else:
                self.client.log_artifacts(run.info.run_id, str(staging))


def _curves(
    rows: Sequence[Mapping[str, Any]],
) -> dict[tuple[str, str, str, str], dict[str, list[tuple[int, float]]]]:
    """(model, method, seed, kind of target) → its points, the dense model's among them."""
    curves: dict[tuple[str, str, str, str], dict[str, set[tuple[int, float]]]] = {}
    for row in rows:
        if row["method"] == "dense" or row["status"] != "completed" or row.get("sparsity") is None:
            continue
        kind = "n:m" if ":" in str(row["target"]) else "unstructured"
        axes = (str(row["model"]), str(row["method"]), str(row["seed"]), kind)
        curve = curves.setdefault(axes, {"sparsity": {(0, 0.0)}})
        step = round(100 * float(row["sparsity"]))
        for key, value in _metrics(row).items():
            if key.startswith("perplexity/") or key in ("sparsity", "diverged"):
                curve.setdefault(key, set()).add((step, value))
            elif key.startswith("dense_perplexity/"):
                curve.setdefault(key.removeprefix("dense_"), set()).add((0, value))
    return {
        axes: {name: sorted(points) for name, points in curve.items()}
        for axes, curve in curves.items()
    }


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    """The row's numbers by metric name; ``diverged`` stands for those that are not finite.

    MLflow's databases would store an infinity as 1.8e308 and NaN as 0.
    """
    metrics = {}
    for column, value in row.items():
        if column in AXES or isinstance(value, bool) or not isinstance(value, Real):
            continue
        if math.isfinite(value):
            metrics[_name(column)] = float(value)
        else:
            metrics["diverged"] = 1.0
    return metrics


def _row_tags(row: Mapping[str, Any]) -> dict[str, str]:
    kind = "dense" if row["method"] == "dense" else "cell"
    tags = {"secateur.kind": kind, "mlflow.note.content": f"{_title(row)}: {row['status']}"}
    if row.get("error"):
        error = _cut(str(row["error"]))
        tags["error"] = error
        tags["mlflow.note.content"] += f"\n\n```\n{error}\n```"
    return tags


def _title(row: Mapping[str, Any]) -> str:
    model = _short(str(row["model"]))
    if row["method"] == "dense":
        return f"dense · {model}"
    return f"{row['method']} {row['target']} · {model} · seed {row['seed']}"


def _short(model: str) -> str:
    """A model's name without its owner or folder."""
    return model.rstrip("/").rpartition("/")[2] or model


def _identity(row: Mapping[str, Any]) -> str:
    """A row's place in its sweep: it stays when the fingerprint comes later or changes."""
    return _digest(*("" if row.get(axis) is None else str(row[axis]) for axis in AXES[:4]))


def _cell(row: Mapping[str, Any]) -> str:
    """The row's fingerprint; one that failed before it had any goes by its place."""
    return str(row.get("fingerprint") or _identity(row))


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _name(text: str) -> str:
    """``text`` as MLflow takes it for a metric, param or tag: also a relative path without dots."""
    parts = re.sub(r"[^\w\-. /]", "_", text).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))[:250].rstrip("/") or "_"


def _cut(text: str, limit: int = 5000) -> str:
    """``text``, or its beginning and a word on how long it was; MLflow takes 6000 of a param."""
    return text if len(text) <= limit else f"{text[:limit]} … (cut, {len(text)} characters)"


def _scheme(uri: str) -> str:
    return urlsplit(uri).scheme.partition("+")[0]


def _without_credentials(text: str) -> str:
    return re.sub(r"//[^/\s]+@", "//", text)


def _lend_credentials(uri: str) -> str:
    """``uri`` without user and password, which MLflow then takes from the environment.

    MLflow and requests put the URI into many of their errors.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.username:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _probe(uri: str, timeout_seconds: float) -> None:
    """Returns when the server gives a sign of life, raises when the time is up.

    MLflow's own attempts last minutes. The attempt has a thread of its own, since neither looking
    up a name nor a server that sends a byte now and then heeds a socket's timeout.
    """
    scheme, parts = _scheme(uri), urlsplit(uri)
    web = scheme in ("http", "https")
    if not web and not (scheme in DATABASES and parts.hostname):
        return
    failures: list[str] = []

    def attempt() -> None:
        try:
            if web:
                address = f"{uri.rstrip('/')}/health"
                urllib.request.urlopen(address, timeout=timeout_seconds).close()  # noqa: S310
            else:
                address = (str(parts.hostname), parts.port or DATABASES[scheme])
                socket.create_connection(address, timeout_seconds).close()
        except urllib.error.HTTPError as error:  # any answer below 500 is a sign of life
            if error.code >= 500:
                failures.append(f"it answers {error.code}")
        except Exception as error:  # noqa: BLE001 (whatever it is, it is the reason)
            reason = getattr(error, "reason", error)
            if not isinstance(reason, ssl.SSLError):  # MLflow may know the certificate
                failures.append(str(reason) or type(reason).__name__)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    if thread.is_alive():
        raise TrackingUnavailableError(uri, f"no answer within {timeout_seconds:g} s")
    if failures:
        raise TrackingUnavailableError(uri, failures[0])


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
            raise TrackingUnavailableError(uri, str(error)) from error
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
        folder = home / "mlartifacts" / _name(name).replace("/", "_")
        location = folder.as_uri() if _scheme(uri) in DATABASES else None
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


@contextlib.contextmanager
def _locked(home: Path, uri: str, name: str) -> Iterator[None]:
    path = home / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        reason = f"another process has held {path.name} for {LOCK_SECONDS:g} s"
        raise TrackingUnavailableError(uri, reason) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _surfaced(uri: str) -> Iterator[None]:
    try:
        yield
    except TrackingUnavailableError:
        raise
    except Exception as error:
        if _is_outage(error, uri):
            raise TrackingUnavailableError(uri, _cut(str(error), 400)) from error
        raise


def _is_outage(error: BaseException | None, uri: str) -> bool:
    """Whether the cause is a connection, a timeout or the server's own failure."""
    import requests
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    failures = ["TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED"]  # a locked database is the first
    if _scheme(uri) not in DATABASES:
        failures.append("INTERNAL_ERROR")  # without a server, MLflow's word for any other error
    if isinstance(error, MlflowException) and error.error_code in failures:
        return True
    lost = (requests.ConnectionError, requests.Timeout, ConnectionError, TimeoutError)
    while error is not None:
        if isinstance(error, (*lost, OperationalError)):
            return True
        if isinstance(error, requests.HTTPError) and error.response is not None:
            return error.response.status_code >= 500
        error = error.__cause__  # not the context, which is what the caller was handling
    return False
