"""A sweep's parent run: begun, found again, and finished with its report."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tasks.tracking.addresses import without_credentials
from tasks.tracking.figures import metrics_of
from tasks.tracking.names import clean_name
from tasks.tracking.notes import HEADING, NOTE, experiment_note, sweep_note
from tasks.tracking.outages import surfacing
from tasks.tracking.records import PARENT, SweepIdentity
from tasks.tracking.runs import Runs
from tasks.tracking.views import saved_views, view_path

if TYPE_CHECKING:
    from mlflow.entities import Run


class Sweeps(Runs):
    """What is written to the parent run."""

    @surfacing
    def begin_sweep(self, sweep: SweepIdentity) -> str:
        """Run id of the sweep's parent run, which is RUNNING afterwards.

        A deleted parent is restored: its children would otherwise hang on nothing.
        """
        identity = {"secateur.kind": "sweep", "secateur.sweep": sweep.fingerprint}
        tags = identity | {NOTE: sweep_note(self.experiment_id, sweep)}
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

    @surfacing
    def close_sweep(self, parent_run_id: str) -> bool:
        """End the run of a sweep with nothing new; False when its report is missing."""
        if "secateur.reported" not in self.client.get_run(parent_run_id).data.tags:
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
            for key, value in metrics_of(row).items():
                if key.startswith("perplexity/"):
                    best = f"best_{key}/{clean_name(row['method'])}"
                    summary[best] = min(value, summary.get(best, value))
        self._append(run, {key: [(0, value)] for key, value in summary.items()})
        self._describe(run, {}, {"status": status})
        names = ("report.html", "report.md", "results.csv", "results.json", "config.yaml")
        files = {name: folder / name for name in names if (folder / name).is_file()}
        files |= {f"plots/{plot.name}": plot for plot in sorted((folder / "plots").glob("*.png"))}
        self._upload(run, files)
        self._publish_views(run, rows)
        # Last: a run without it was cut off, and is finished by the next run of the same sweep.
        self._describe(run, {}, {"secateur.reported": "true"})
        self.client.set_terminated(parent_run_id, "FINISHED" if counts["completed"] else "FAILED")

    def view_url(self, base: str, kind: str, name: str) -> str:
        """A view of a sweep in the dashboard at ``base``: CELLS or CURVES, by the sweep's name."""
        address = without_credentials(base).rstrip("/")
        return f"{address}/{view_path(self.experiment_id, kind, name)}"

    def _publish_views(self, run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
        """Saves what the dashboard shall show of this sweep, and says so where users look."""
        name = str(run.info.run_name)
        columns = sorted({metric for row in rows for metric in metrics_of(row)})
        sweep = run.data.tags.get("secateur.sweep", "")
        for key, view in saved_views(name, sweep, columns, run.info.start_time).items():
            self.client.set_experiment_tag(self.experiment_id, key, view)
        tags = self.client.get_experiment(self.experiment_id).tags
        if tags.get(NOTE, "").startswith(HEADING) or not tags.get(NOTE):
            note = experiment_note(self.experiment_id, tags)
            self.client.set_experiment_tag(self.experiment_id, NOTE, note)

    def compare_url(self, base: str, run_ids: Sequence[str]) -> str:
        """The page of the dashboard at ``base`` that compares runs."""
        runs = quote(json.dumps(list(run_ids), separators=(",", ":")), safe="")
        experiments = quote(json.dumps([self.experiment_id]), safe="")
        address = without_credentials(base).rstrip("/")
        mode = "workflowType=machine_learning"
        return f"{address}/#/compare-runs?runs={runs}&experiments={experiments}&{mode}"
