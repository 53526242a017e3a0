"""The children of a sweep's run: a run for each row and for each curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.measures.figures import Figure
from tasks.reporting.text import short_names
from tasks.tracking.figures import curves_of, finite, metrics_of, step_of, tags_of
from tasks.tracking.names import clean_name, cut, digest, row_cell, row_identity, title_of
from tasks.tracking.outages import surfacing
from tasks.tracking.records import AXES, DURATIONS, PARENT, InputRecord
from tasks.tracking.sweeps import Sweeps


class Tracker(Sweeps):
    """One experiment, open for writing. Made by ``connect``; every method may be repeated."""

    @surfacing
    def logged(
        self,
        parent_run_id: str,
        rows: Sequence[Mapping[str, Any]] = (),
        figures: Sequence[Figure] = (),
    ) -> dict[str, str]:
        """Fingerprint → run id of the rows that are completely logged.

        With ``rows``, those that have to be logged again are left out: their status has changed
        since, or one of ``figures``, as seconds do when a lost artifact is made anew.
        """
        runs = {
            run.data.tags["secateur.row"]: run
            for run in self._runs({PARENT: parent_run_id})
            if "secateur.row" in run.data.tags and run.info.status in ("FINISHED", "FAILED")
        }
        stale = {
            row_cell(row)
            for row in rows
            if (run := runs.get(row_identity(row))) is None
            or run.data.tags.get("status") != row["status"]
            or not metrics_of(row, figures).items() <= run.data.metrics.items()
        }
        logged = {run.data.tags["secateur.cell"]: run.info.run_id for run in runs.values()}
        return {cell: run_id for cell, run_id in logged.items() if cell not in stale}

    @surfacing
    def log_row(
        self,
        parent_run_id: str,
        row: Mapping[str, Any],
        *,
        figures: Sequence[Figure],
        inputs: Sequence[InputRecord] = (),
        extra_params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        files: Mapping[str, Path] | None = None,
        history: Sequence[tuple[int, Mapping[str, float]]] = (),
        models: Sequence[str] = (),
    ) -> str:
        """Run id of the child run that holds ``row``, one row of results.csv.

        Figures become metrics at step round(1000·sparsity); one that is not finite becomes
        ``diverged`` = 1. A run of the same row is completed rather than repeated. One with another
        fingerprint or other params (it had failed, say) is deleted and made anew, since MLflow can
        neither change a param nor take a metric back.

        Args:
            figures: what the row's columns mean.
            files: path in the run's artifacts → file or folder.
            history: figures of training by step; the run ends only when they are all there.
            models: of the sweep, from which the row's is told.
        """
        axes = {axis: str(row[axis]) for axis in AXES if row.get(axis) not in (None, "")}
        params = {
            clean_name(key): cut(str(value))
            for key, value in (axes | dict(extra_params or {})).items()
        }
        title, metrics = title_of(row, models), metrics_of(row, figures)
        seconds = sum(metrics.get(name, 0.0) for name in DURATIONS)
        place = {PARENT: parent_run_id, "secateur.row": row_identity(row)}
        identity = {**place, "secateur.cell": row_cell(row)}
        with self._locked("row", "".join(place.values())):
            run = self._reopened(place, identity, params)
            if run is None:
                run = self._created(title, identity, seconds)
            sweep = self._sweep_tag(parent_run_id)
            self._describe(run, params, {**axes, **tags_of(row, title), **sweep, **(tags or {})})
            self._append(run, {key: [(step_of(row), value)] for key, value in metrics.items()})
            self._record_inputs(run, inputs)
            self._upload(run, files or {})
            if history:
                self.log_history(run.info.run_id, history)
            status = "FAILED" if row["status"] == "failed" else "FINISHED"
            end = run.info.start_time + round(1000 * seconds)
            self.client.set_terminated(run.info.run_id, status, end_time=end)
        return run.info.run_id

    @surfacing
    def log_curves(
        self, parent_run_id: str, rows: Sequence[Mapping[str, Any]], figures: Sequence[Figure]
    ) -> None:
        """Headline and quality figures against sparsity, one child run a curve.

        A curve is one model, method, seed and kind of target: fractions, or keep:group with one
        group. The step is round(1000·sparsity), or the next that is free, so the chart view draws
        the curve by itself; the dense model comes first. ``rows`` are all of the sweep: a curve
        with points that they no longer hold is deleted and made anew.
        """
        with self._locked("curves", parent_run_id):
            runs = self._runs({PARENT: parent_run_id, "secateur.kind": "curve"})
            existing = {run.data.tags.get("secateur.curve"): run for run in runs}
            sweep = self._sweep_tag(parent_run_id)
            names = short_names(str(row["model"]) for row in rows)
            for axes, points in curves_of(rows, figures).items():
                model, method, seed, kind = axes
                params = {"model": model, "method": method, "seed": seed, "targets": kind}
                curve = digest(*axes)
                run = existing.get(curve)
                if run is not None and self._holds_other_points(run, points):
                    self.client.delete_run(run.info.run_id)
                    run = None
                if run is None:
                    run = self._created(
                        f"{method} {kind} curve · {names[model]} · seed {seed}",
                        {PARENT: parent_run_id, "secateur.kind": "curve", "secateur.curve": curve},
                    )
                self._append(run, points)
                self._describe(run, params, {**params, **sweep})
                self.client.set_terminated(run.info.run_id)

    @surfacing
    def log_history(self, run_id: str, history: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Figures of training, step by step; what is there already is not logged again."""
        points: dict[str, list[tuple[int, float]]] = {}
        for step, figures in history:
            for key, value in finite(figures).items():
                points.setdefault(key, []).append((step, value))
        self._append(self.client.get_run(run_id), points)
