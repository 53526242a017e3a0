"""A sweep's parent run: begun, found again, and finished with its report."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tasks.measures.figures import Figure
from tasks.runtime.links import redacted
from tasks.store.home import home_id
from tasks.tracking.figures import finite, summary_of
from tasks.tracking.names import digest
from tasks.tracking.notes import HEADING, NOTE, experiment_note, sweep_note
from tasks.tracking.outages import surfacing
from tasks.tracking.records import PARENT, SweepIdentity
from tasks.tracking.runs import Runs
from tasks.tracking.views import saved_views, view_path

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


_HOME = "secateur.home"
"""The home that a sweep runs in: a server may hold other machines' sweeps as well."""
_REPORTED = "secateur.reported"
"""Which report the run holds, whole."""


class Sweeps(Runs):
    """What is written to the parent run."""

    @surfacing
    def begin_sweep(self, sweep: SweepIdentity, *, of_cell: bool = False) -> str:
        """Run id of the sweep's parent run, which is RUNNING afterwards.

        A deleted parent is restored: its children would otherwise hang on nothing.

        Args:
            of_cell: whether the caller is a cell's own process, which does not end the sweep: the
                run stays as it is.
        """
        identity = {"secateur.kind": "sweep", "secateur.sweep": sweep.fingerprint}
        described = {"secateur.name": sweep.name, NOTE: sweep_note(self.experiment_id, sweep)}
        tags = identity | described | {_HOME: home_id(self.home)}
        with self._locked("sweep", sweep.fingerprint):
            runs = self._runs(identity, deleted_too=True)
            active = [run for run in runs if run.info.lifecycle_stage == "active"]
            run = (active or runs or [None])[0]
            new = run is None
            if run is None:
                run = self._created(sweep.name, tags)
            elif not active:
                self.client.restore_run(run.info.run_id)
            # An axis that changed keeps its first value: MLflow has no way to change a param.
            if new or not of_cell:  # a cell's home may be another than the sweep's
                self._describe(run, sweep.axes, tags)
            if new or not of_cell:
                status = "SCHEDULED" if of_cell else "RUNNING"
                self.client.update_run(run.info.run_id, status=status, name=sweep.name)
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "config.yaml"
            config.write_text(sweep.config_yaml, encoding="utf-8")
            self._upload(run, {"config.yaml": config})
        return run.info.run_id

    @surfacing
    def close_sweep(self, parent_run_id: str, folder: Path) -> bool:
        """End the run of a sweep with nothing new; False when it lacks this folder's report."""
        reported = self.client.get_run(parent_run_id).data.tags.get(_REPORTED)
        if reported != _report_of(folder):
            return False
        self.client.set_terminated(parent_run_id, "FINISHED")
        return True

    @surfacing
    def stop_sweep(self, parent_run_id: str) -> None:
        """End the sweep's run as KILLED, and the runs that a killed process left RUNNING."""
        for run in self._runs({PARENT: parent_run_id}):
            if run.info.status == "RUNNING":
                self.client.set_terminated(run.info.run_id, "KILLED")
        self.client.set_terminated(parent_run_id, "KILLED")

    @surfacing
    def close_abandoned(self, parent_run_id: str, held: Callable[[str], bool]) -> None:
        """End sweeps of this home whose process is gone, and their rows, as KILLED.

        Args:
            parent_run_id: the caller's own sweep, whose name it holds.
            held: tells by a sweep's name whether a process of this home runs it.
        """
        mine = self.client.get_run(parent_run_id).data.tags.get("secateur.name", "")
        close_abandoned(
            self.client,
            self.uri,
            self.home,
            lambda run, name: run != parent_run_id and (name == mine or not held(name)),
        )

    @surfacing
    def finish_sweep(
        self,
        parent_run_id: str,
        rows: Sequence[Mapping[str, Any]],
        figures: Sequence[Figure],
        folder: Path,
        status: str,
        across: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Uploads the report, logs the summary and ends the sweep's run.

        The run is FAILED when no cell completed; ``status``, the sweep's own word for how it
        ended, becomes the tag ``status``.

        Args:
            across: column → figure of several cells together.
        """
        run = self.client.get_run(parent_run_id)
        summary = summary_of(rows, figures)
        told = finite(across) | summary
        self._append(run, {key: [(0, value)] for key, value in told.items()})
        self._describe(run, {}, {"status": status})
        names = ("report.html", "report.md", "results.csv", "results.json", "config.yaml")
        files = {name: folder / name for name in names if (folder / name).is_file()}
        files |= {f"plots/{plot.name}": plot for plot in sorted((folder / "plots").glob("*.png"))}
        self._upload(run, files)
        self._publish_views(run, rows, figures)
        # Last: a run without it was cut off, and is finished by the next run of the same sweep.
        self._describe(run, {}, {_REPORTED: _report_of(folder)})
        ended = "FINISHED" if summary["cells_completed"] else "FAILED"
        self.client.set_terminated(parent_run_id, ended)

    def view_url(self, base: str, kind: str, name: str) -> str:
        """A view of a sweep in the dashboard at ``base``: CELLS or CURVES, by the sweep's name."""
        address = redacted(base).rstrip("/")
        return f"{address}/{view_path(self.experiment_id, kind, name)}"

    def _publish_views(
        self, run: Run, rows: Sequence[Mapping[str, Any]], figures: Sequence[Figure]
    ) -> None:
        """Saves what the dashboard shall show of this sweep, and says so where users look."""
        name = str(run.info.run_name)
        sweep = run.data.tags.get("secateur.sweep", "")
        for key, view in saved_views(name, sweep, rows, figures, run.info.start_time).items():
            self.client.set_experiment_tag(self.experiment_id, key, view)
        tags = self.client.get_experiment(self.experiment_id).tags
        if tags.get(NOTE, "").startswith(HEADING) or not tags.get(NOTE):
            note = experiment_note(self.experiment_id, tags)
            self.client.set_experiment_tag(self.experiment_id, NOTE, note)


def _report_of(folder: Path) -> str:
    """What tells a sweep's report from its former ones."""
    path = folder / "report.md"
    return digest(path.read_text(encoding="utf-8")) if path.is_file() else ""


def close_abandoned(
    client: MlflowClient, uri: str, home: Path, gone: Callable[[str, str], bool]
) -> None:
    """End sweeps of a home whose process is gone, and their rows, as KILLED.

    Args:
        home: whose sweeps these are; of its own database all are.
        gone: tells by a run's id and its sweep's name whether no process is at it.
    """
    experiments = [entry.experiment_id for entry in client.search_experiments()]
    chosen = "tags.`secateur.kind` = 'sweep'"
    if uri != f"sqlite:///{home / 'mlflow.db'}":
        chosen += f" and tags.`{_HOME}` = '{home_id(home)}'"
    for status in ("RUNNING", "SCHEDULED"):  # a cell may have made the run, which begins no sweep
        for run in client.search_runs(experiments, f"attributes.status = '{status}' and {chosen}"):
            if gone(run.info.run_id, run.data.tags.get("secateur.name", "")):
                Sweeps(client, uri, home, run.info.experiment_id).stop_sweep(run.info.run_id)
