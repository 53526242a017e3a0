"""One experiment's runs: found by tags, made, described and added to, each only once."""

from __future__ import annotations

import contextlib
import getpass
import json
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks.tracking.addresses import DATABASES, scheme
from tasks.tracking.names import clean_name, cut, digest
from tasks.tracking.outages import locked
from tasks.tracking.records import InputRecord, Points

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


class Runs:
    """An experiment that is open; what ``Tracker`` builds on."""

    def __init__(self, client: MlflowClient, uri: str, home: Path, experiment_id: str) -> None:
        self.client = client
        self.uri = uri
        self.home = home
        self.experiment_id = experiment_id

    def _locked(self, kind: str, key: str = "") -> contextlib.AbstractContextManager[Any]:
        # 256 files at most, however many cells; two cells that share one merely wait.
        return locked(self.home, self.uri, f"mlflow-{kind}-{digest(key)[:2]}")

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
        texts = {key: cut(value) for key, value in (origin | dict(tags)).items()}
        began = round(1000 * (time.time() - seconds))
        return self.client.create_run(self.experiment_id, began, texts, name)

    def _describe(self, run: Run, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Adds params that are missing and sets tags."""
        from mlflow.entities import Param, RunTag

        named = {clean_name(key): cut(value) for key, value in params.items()}
        new = [Param(key, value) for key, value in named.items() if key not in run.data.params]
        marks = [RunTag(clean_name(key), cut(value)) for key, value in tags.items()]
        for at in range(0, max(len(new), len(marks)), 100):
            part = {"params": new[at : at + 100], "tags": marks[at : at + 100]}
            self.client.log_batch(run.info.run_id, **part)

    def _history(self, run: Run, name: str) -> list[Any]:
        if name not in run.data.metrics:  # which saves a request for each metric of a new run
            return []
        return self.client.get_metric_history(run.info.run_id, name)

    def _append(self, run: Run, points: Points) -> None:
        """Logs the points that the run does not show yet.

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
            for step, value in dict(entries).items():
                there = held.get(step, [])
                last = max(there, key=lambda metric: (metric.timestamp, metric.value), default=None)
                if last is None or last.value != value:
                    latest = last.timestamp + 1 if last else 0
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
            if place.scheme == "mlflow-artifacts" and scheme(self.uri) in DATABASES:
                # An experiment that a server on this home made: where it would put them itself.
                target = self.home / "mlartifacts" / place.path.lstrip("/")
                shutil.copytree(staging, target, dirs_exist_ok=True)
            else:
                self.client.log_artifacts(run.info.run_id, str(staging))
