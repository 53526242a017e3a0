"""Writes rows to the tracking server; one that cannot be reached delays nothing.

A sweep asks at its start whether the server answers. When it does not, or stops answering, its rows
stay on disk, and are logged at its end if the server is back by then, else by the next run of the
same command.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from configs.yaml_file import dump
from tasks.data.texts import Windows
from tasks.measures.figures import PRUNING, SELECTION, Figure
from tasks.measures.registry import figures_of
from tasks.plan.plan import Cell, ModelPlan, Plan
from tasks.plan.rows import Row, across_of, learned_of, row_of
from tasks.provenance.inputs import params_of
from tasks.runtime.environment import environment
from tasks.runtime.links import redacted
from tasks.steps.links import link_run, link_sweep, prefect_tags
from tasks.steps.run import call_task, can_pass
from tasks.steps.session import Session
from tasks.store.context import Context
from tasks.store.steps import walk
from tasks.tracking import (
    InputRecord,
    SweepIdentity,
    Tracker,
    TrackingUnavailableError,
    connect,
    hurried,
)

log = logging.getLogger("secateur.record")


@dataclass
class Recorder:
    """A sweep's runs on the tracking server, for as long as it answers.

    Attributes:
        of_cell: whether this is a cell's own process, which neither begins nor ends the sweep.
        unavailable: why nothing more is logged in this process; empty while all is well.
        run_ids: row fingerprint → run id of what is logged.
        logged_now: whether this process logged a row.
    """

    plan: Plan
    context: Context
    of_cell: bool = False
    tracker: Tracker | None = None
    parent: str = ""
    unavailable: str = ""
    run_ids: dict[str, str] = field(default_factory=dict)
    logged_now: bool = False
    _outages: int = 0

    def open(self) -> None:
        """Begin the sweep's run or go on with it; why that is not possible is kept, not raised."""
        config = self.plan.config
        try:
            experiment = config.tracking.experiment or config.name
            self.tracker = connect(None, self.context.store.root, experiment)
            self.parent = self.tracker.begin_sweep(_identity(self.plan), of_cell=self.of_cell)
            # Only rows logged as completed count: what had failed is logged again if it succeeds.
            self.run_ids |= self.tracker.logged(self.parent, _as_completed(self.plan))
            self.unavailable, self._outages = "", 0
        except TrackingUnavailableError as error:
            self.unavailable = str(error)
        except Exception as error:  # noqa: BLE001 (a refusal must not cost the sweep its results)
            told = f"MLflow refuses ({type(error).__name__}: {str(error)[:300]})"
            self.unavailable = redacted(f"{told}; check MLFLOW_TRACKING_URI")

    def resume(self) -> bool:
        """Whether a server that was away is back: one that is not costs one attempt."""
        if not self.unavailable:
            return False
        self.open()
        return not self.unavailable

    def outage(self, error: TrackingUnavailableError) -> None:
        """Count an outage; the second one in a row ends logging for this process."""
        self._outages += 1
        if self._outages > 1:
            self.unavailable = str(error)

    def log(self, planned: ModelPlan | Cell, error: str) -> str:
        """Log one row unless it is there already, and return its run id.

        Args:
            error: why it failed; empty where it did not.
        """
        assert self.tracker is not None
        if known := self.run_ids.get(planned.fingerprint):
            return known
        row = row_of(planned, self.context, error)
        run_id = self.tracker.log_row(
            self.parent,
            row,
            figures=_figures([row]),
            inputs=_inputs(planned),
            extra_params=params_of(planned, self.context),
            tags=prefect_tags(),
            history=[
                (round(step["step"]), _named(step)) for step in learned_of(planned, self.context)
            ],
            models=[model.spec for model in self.plan.models],
        )
        self._outages = 0
        self.logged_now = True
        self.run_ids[planned.fingerprint] = run_id
        return run_id

    def learn(
        self, computed: Sequence[ModelPlan | Cell], errors: Mapping[str, str]
    ) -> list[ModelPlan | Cell]:
        """Learn what is logged of rows that were computed; those that nobody logged as they are
        now are left.

        Args:
            errors: row fingerprint → why it failed.
        """
        if self.unavailable or self.tracker is None or not computed:
            return []
        rows = [row_of(one, self.context, errors.get(one.fingerprint, "")) for one in computed]
        try:
            logged = self.tracker.logged(self.parent, rows, _figures(rows))
        except TrackingUnavailableError as error:
            self.outage(error)
            return []
        self.logged_now = True
        left = [one for one in computed if one.fingerprint not in logged]
        for one in left:
            self.run_ids.pop(one.fingerprint, None)
        self.run_ids |= logged
        return left

    def close_abandoned(self, held: Callable[[str], bool]) -> None:
        """End what killed processes left running; ``held`` tells whether a sweep's name is run."""
        if self.unavailable or self.tracker is None:
            return
        try:
            self.tracker.close_abandoned(self.parent, held)
        except TrackingUnavailableError as error:
            self.outage(error)

    def stop(self) -> None:
        """End the sweep's run as killed; the next run of the same sweep goes on with it.

        What stays open because the server is away, the next sweep of this home ends.
        """
        with hurried():
            if not self.parent:  # what this process could not begin may be open from another one
                self.open()
            if self.tracker is None or not self.parent:
                return
            try:
                self.tracker.stop_sweep(self.parent)
            except TrackingUnavailableError as error:
                log.warning("%s; the sweep's run stays open there until the next sweep", error)

    def finish(self, rows: list[Row], folder: Path, *, changed: bool) -> None:
        """Log curves, summary and the report's files if they changed, and end the sweep's run."""
        if self.unavailable or self.tracker is None:
            return
        failed = any(row["status"] == "failed" for row in rows)
        figures = _figures(rows)
        try:
            nothing_new = not changed and not self.logged_now
            if nothing_new and self.tracker.close_sweep(self.parent, folder):
                return
            link_sweep(self.tracker, self.plan.config.name)
            self.tracker.log_curves(self.parent, rows, figures)
            self.tracker.finish_sweep(
                self.parent,
                rows,
                figures,
                folder,
                "partial" if failed else "completed",
                across=across_of(self.plan, self.context),
            )
        except TrackingUnavailableError as error:
            self.unavailable = str(error)
            log.warning("%s; run the same command again to log the rest", error)


def recorder_of(plan: Plan, session: Session, *, of_cell: bool = False) -> Recorder:
    """This process's recorder for a sweep, opened on the first call; never raises an outage.

    Args:
        of_cell: whether a cell asks; its sweep may be another process's.
    """
    if plan.fingerprint not in session.recorders:
        recorder = Recorder(plan, session.context(plan.config), of_cell)
        recorder.open()
        if recorder.unavailable:
            log.warning(
                "%s; results stay on disk, and are logged when it is back: at this sweep's end, or "
                "by the same command",
                recorder.unavailable,
            )
        session.recorders[plan.fingerprint] = recorder
    return session.recorders[plan.fingerprint]


def _identity(plan: Plan) -> SweepIdentity:
    config = plan.config
    axes = {
        "models": ", ".join(config.models),
        "methods": ", ".join(config.entries),
        "targets": ", ".join(config.targets),
        **({"selections": ", ".join(config.selections)} if config.selections else {}),
        "seeds": ", ".join(map(str, config.seeds)),
        "dtype": config.dtype,
        "code_version": environment()["secateur"],
    }
    return SweepIdentity(
        name=config.name, fingerprint=plan.fingerprint, config_yaml=dump(config), axes=axes
    )


def _figures(rows: Sequence[Row]) -> list[Figure]:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return [*PRUNING, *SELECTION, *figures_of(columns)]


def _as_completed(plan: Plan) -> list[Row]:
    """What tells the sweep's rows apart, with the status that they shall have."""
    dense = [
        {"model": model.spec, "method": "dense", "target": "", "seed": None}
        for model in plan.models
    ]
    axes = [*dense, *(cell.axes for cell in plan.cells)]
    planned = (*plan.models, *plan.cells)
    return [
        {**place, "fingerprint": row.fingerprint, "status": "completed"}
        for place, row in zip(axes, planned, strict=True)
    ]


def _inputs(planned: ModelPlan | Cell) -> list[InputRecord]:
    """The model and the texts behind a row, as MLflow shows them."""
    model = planned if isinstance(planned, ModelPlan) else planned.model
    source = model.model
    origin = (
        f"{source.spec}@{source.revision}" if source.revision else f"{source.kind}:{source.spec}"
    )
    records = [InputRecord(name=source.spec, digest=source.digest, source=origin, context="model")]
    texts = (s.about for s in walk(planned.goals) if isinstance(s.about, Windows))
    return records + [
        InputRecord(
            name=windows.name,
            digest=windows.facts.digest,
            source=windows.facts.description,
            context=windows.field.partition(".")[0],
        )
        for windows in texts
    ]


def _named(step: Mapping[str, float]) -> dict[str, float]:
    """A step's figures under a heading of their own in the dashboard."""
    return {f"learning/{name}": value for name, value in step.items() if name != "step"}


@task(
    name="record",
    retries=1,
    retry_delay_seconds=1,
    retry_condition_fn=can_pass,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def _record(recorder: Recorder, planned: ModelPlan | Cell, error: str) -> Any:
    """Log a row and how it learned; without a server it ends as Postponed, and nothing is lost."""
    if not recorder.unavailable:
        try:
            run_id = recorder.log(planned, error)
        except TrackingUnavailableError as outage:
            recorder.outage(outage)
            if not recorder.unavailable:
                raise
        else:
            assert recorder.tracker is not None
            link_run(recorder.tracker, run_id)
            return run_id
    return Completed(name="Postponed", message=recorder.unavailable, data="")


def record(recorder: Recorder, planned: ModelPlan | Cell, error: str = "") -> None:
    """Log a row as a task of this flow run, whatever becomes of it."""
    name = f"record {planned.subject.label}"
    call_task(_record, recorder, planned, error, name=name, return_state=True)
