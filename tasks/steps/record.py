"""Writes rows to the tracking server; one that cannot be reached delays nothing.

A sweep asks once whether the server answers. When it does not, or stops answering, its rows stay
on disk, and the next run of the same command logs what is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from configs.yaml_file import dump
from tasks.plan.corpora import Windows
from tasks.plan.plan import Cell, ModelPlan, Plan
from tasks.provenance.recorded import inputs_of
from tasks.runtime.environment import environment
from tasks.steps.links import link_run, link_sweep, prefect_tags
from tasks.steps.prune import history_of
from tasks.steps.rows import Row, cell_row, dense_fingerprint
from tasks.steps.states import can_pass
from tasks.store.home import home
from tasks.store.store import Store
from tasks.tracking import InputRecord, SweepIdentity, Tracker, TrackingUnavailableError, connect

log = logging.getLogger("secateur.record")


@dataclass
class Recorder:
    """A sweep's runs on the tracking server, for as long as it answers.

    Attributes:
        unavailable: why nothing more is logged in this process; empty while all is well.
        run_ids: row fingerprint → run id of what is logged.
        logged_now: whether this process logged a row.
    """

    tracker: Tracker | None
    parent: str = ""
    unavailable: str = ""
    run_ids: dict[str, str] = field(default_factory=dict)
    logged_now: bool = False
    _outages: int = 0

    def outage(self, error: TrackingUnavailableError) -> None:
        """Count an outage; the second one in a row ends logging for this process."""
        self._outages += 1
        if self._outages > 1:
            self.unavailable = str(error)

    def log_row(self, plan: Plan, row: Row, history: Sequence[Mapping[str, float]] = ()) -> str:
        """Log one row unless it is there already, and return its run id.

        Args:
            history: figures of learning, each with its ``step``.
        """
        assert self.tracker is not None
        if known := self.run_ids.get(row["fingerprint"]):
            return known
        model = next(m for m in plan.models if m.model.spec == row["model"])
        cell = next((c for c in plan.cells if c.fingerprint == row["fingerprint"]), None)
        run_id = self.tracker.log_row(
            self.parent,
            row,
            inputs=_inputs(model, cell),
            extra_params=inputs_of(plan, model, cell, home()),
            tags=prefect_tags(),
            history=[(round(step["step"]), _named(step)) for step in history],
        )
        self._outages = 0
        self.logged_now = True
        self.run_ids[row["fingerprint"]] = run_id
        return run_id


_recorders: dict[str, Recorder] = {}


def recorder_of(plan: Plan) -> Recorder:
    """This process's recorder for a sweep, opened on the first call; never raises an outage."""
    if plan.fingerprint not in _recorders:
        _recorders[plan.fingerprint] = _open(plan)
    return _recorders[plan.fingerprint]


def unavailable() -> str:
    """Why rows of this process are not all logged; empty when they are."""
    return next((r.unavailable for r in _recorders.values() if r.unavailable), "")


def _open(plan: Plan) -> Recorder:
    config = plan.config
    axes = {
        "models": ", ".join(config.models),
        "methods": ", ".join(config.entries),
        "targets": ", ".join(config.targets),
        "seeds": ", ".join(map(str, config.seeds)),
        "dtype": config.dtype,
        "code_version": environment()["secateur"],
    }
    identity = SweepIdentity(
        name=config.name, fingerprint=plan.fingerprint, config_yaml=dump(config), axes=axes
    )
    try:
        tracker = connect(None, home(), config.tracking.experiment or config.name)
        parent = tracker.begin_sweep(identity)
        # Only rows logged as completed count: what had failed is logged again when it succeeds.
        return Recorder(tracker, parent, run_ids=tracker.logged(parent, _as_completed(plan)))
    except TrackingUnavailableError as error:
        log.warning("%s; results stay on disk, run the same command again to log them", error)
        return Recorder(None, unavailable=str(error))
    except Exception as error:  # noqa: BLE001 (a refusal must not cost the sweep its results)
        reason = f"MLflow refuses ({type(error).__name__}: {str(error)[:300]})"
        log.warning("%s; results stay on disk. Check MLFLOW_TRACKING_URI", reason)
        return Recorder(None, unavailable=reason)


def _as_completed(plan: Plan) -> list[Row]:
    """What tells the sweep's rows apart, with the status that they shall have."""
    rows: list[Row] = [
        {
            "model": model.model.spec,
            "method": "dense",
            "target": "",
            "seed": None,
            "fingerprint": dense_fingerprint(model),
        }
        for model in plan.models
    ]
    rows += [
        {
            "model": cell.model.model.spec,
            "method": cell.name,
            "target": str(cell.target),
            "seed": cell.seed,
            "fingerprint": cell.fingerprint,
        }
        for cell in plan.cells
    ]
    return [row | {"status": "completed"} for row in rows]


def _inputs(model: ModelPlan, cell: Cell | None) -> list[InputRecord]:
    records = [InputRecord(name=model.model.spec, digest=model.model.digest,
                           source=_origin(model), context="model")]  # fmt: skip
    if cell and cell.method.uses_calibration and model.calibration:
        records.append(_corpus_input(model.calibration, "calibration"))
    if cell and cell.method.uses_training and model.training:
        records.append(_corpus_input(model.training, "training"))
    return records + [_corpus_input(w, "evaluation") for w in model.evaluations.values()]


def _origin(model: ModelPlan) -> str:
    source = model.model
    return f"{source.spec}@{source.revision}" if source.revision else f"{source.kind}:{source.spec}"


def _corpus_input(windows: Windows, context: str) -> InputRecord:
    return InputRecord(
        name=windows.name,
        digest=windows.facts.digest,
        source=windows.facts.description,
        context=context,
    )


def _named(step: Mapping[str, float]) -> dict[str, float]:
    """A step's figures under a heading of their own in the dashboard."""
    return {f"learning/{name}": value for name, value in step.items() if name != "step"}


def _server_can_pass(_task: Any, _run: Any, state: Any) -> bool:
    return can_pass(state, TrackingUnavailableError)


@task(
    name="record",
    task_run_name="record {row[method]} {row[target]}",
    retries=1,
    retry_delay_seconds=1,
    retry_condition_fn=_server_can_pass,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def record(plan: Plan, row: Row, history: Sequence[Mapping[str, float]] = ()) -> Any:
    """Log a row and how it learned; without a server it ends as Postponed, and nothing is lost."""
    recorder = recorder_of(plan)
    if not recorder.unavailable:
        try:
            run_id = recorder.log_row(plan, row, history)
        except TrackingUnavailableError as error:
            recorder.outage(error)
            if not recorder.unavailable:
                raise
        else:
            assert recorder.tracker is not None
            link_run(recorder.tracker, run_id)
            return run_id
    return Completed(name="Postponed", message=recorder.unavailable, data="")


def complete_records(
    plan: Plan, store: Store, computed: Sequence[Cell], errors: Mapping[str, str]
) -> None:
    """Learn what other processes logged of a sweep, and log what none of them could.

    Args:
        computed: the cells to look for.
        errors: row fingerprint → why it failed.
    """
    recorder = recorder_of(plan)
    elsewhere = [cell for cell in computed if cell.fingerprint not in recorder.run_ids]
    if recorder.unavailable or recorder.tracker is None or not elsewhere:
        return
    rows = [cell_row(cell, store, errors.get(cell.fingerprint, "")) for cell in elsewhere]
    try:
        logged = recorder.tracker.logged(recorder.parent, rows)
    except TrackingUnavailableError as error:
        recorder.outage(error)
        return
    recorder.logged_now = True
    recorder.run_ids |= logged
    for cell, row in zip(elsewhere, rows, strict=True):
        if cell.fingerprint not in logged:
            record(plan, row, history_of(cell, store), return_state=True)


def stopped(plan: Plan) -> None:
    """End a sweep's run as killed; the next run of the same sweep goes on with it."""
    recorder = recorder_of(plan)
    if recorder.tracker is None:
        return
    try:
        recorder.tracker.stop_sweep(recorder.parent)
    except TrackingUnavailableError as error:
        log.warning("%s; the sweep's run stays as it is", error)


def finish(plan: Plan, rows: list[Row], folder: Path, status: str, *, changed: bool) -> None:
    """Log curves, the summary and the report's files if they changed, and end the sweep's run."""
    recorder = recorder_of(plan)
    if recorder.unavailable or recorder.tracker is None:
        return
    try:
        nothing_new = not changed and not recorder.logged_now
        if nothing_new and recorder.tracker.close_sweep(recorder.parent):
            return
        link_sweep(recorder.tracker, plan.config.name)
        recorder.tracker.log_curves(recorder.parent, rows)
        recorder.tracker.finish_sweep(recorder.parent, rows, folder, status)
    except TrackingUnavailableError as error:
        recorder.unavailable = str(error)
        log.warning("%s; run the same command again to log the rest", error)
