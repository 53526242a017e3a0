"""The ``sweep`` flow: shared steps → one flow for each cell → report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled, Completed, Failed

from configs.schema import SweepConfig
from flows.compute.cancelling import SweepCancelledError
from flows.compute.devices import devices
from flows.compute.here import reason_of, run_here
from flows.compute.overlap import held
from flows.compute.pool import run_in_pool
from flows.compute.pool_runs import check_pool
from tasks.models.resident import DENSE, PLACED, PRUNED
from tasks.plan.plan import Cell, ModelPlan, Plan, needed_places, steps_of
from tasks.plan.rows import headline_note, row_of
from tasks.reporting.timings import CellTiming, Timings
from tasks.steps.record import Recorder, record, recorder_of
from tasks.steps.report import report
from tasks.steps.run import cached, call_task, is_complete, open_steps, run_step
from tasks.steps.session import Session, session
from tasks.store.context import Context
from tasks.store.home import sweep_folder
from tasks.store.needs import list_needs
from tasks.store.steps import Step, walk


@flow(name="sweep", flow_run_name="{config.name}", persist_result=False)
def sweep(config: SweepConfig, work_pool: str = "") -> Any:
    """Prune every model with every method to every target, evaluate and compare.

    Args:
        config: the sweep, field by field as in a sweep file.
        work_pool: the Prefect work pool whose workers compute the cells; empty: this machine.
    """
    if work_pool:
        check_pool(work_pool)
    here = session()
    run = _Run(here, here.checked_plan(config), work_pool)
    try:
        run.prepare()
        run.compute()
        run.finish()
    except SweepCancelledError as error:
        run.recorder.stop()
        return Cancelled(message=f"{error}; what it computed stays, and the same sweep goes on")
    except BaseException:
        run.recorder.stop()  # a signal, or a server that is gone
        raise
    finally:
        run.context.loaded.release()
    return run.state()


@task(name="cell", cache_policy=NO_CACHE, persist_result=False)
def _complete(cell: Cell) -> Any:
    """A cell that the store holds in full: no flow is started for it."""
    return cached(cell.fingerprint)


@dataclass
class _Run:
    """One execution of a sweep.

    Attributes:
        errors: row fingerprint → why it failed.
        failed: step → why it failed, of the steps that cells share.
    """

    session: Session
    plan: Plan
    work_pool: str
    errors: dict[str, str] = field(default_factory=dict)
    failed: dict[Step, str] = field(default_factory=dict)
    shared: dict[str, float] = field(default_factory=dict)
    computed: list[Cell] = field(default_factory=list)
    timings: list[CellTiming] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    @property
    def context(self) -> Context:
        return self.session.context(self.plan.config)

    @property
    def recorder(self) -> Recorder:
        return recorder_of(self.plan, self.session)

    def prepare(self) -> None:
        """What all cells share, once and first; a failure here fails only what needs it."""
        self.recorder.close_abandoned(held)
        folder = sweep_folder(self.plan.config.name)
        folder.mkdir(parents=True, exist_ok=True)
        list_needs(folder, needed_places(self.plan, ended=False))
        open_cells = [c for c in self.plan.cells if not is_complete(c.goals, self.context)]
        for model in self.plan.models:
            self._run(model.goals)
            mine = [cell for cell in open_cells if cell.model is model]
            self._run(s for s in self.plan.shared(mine, self._there) if not self._there(s))
            self._settle(model)

    def _run(self, goals: Iterable[Step]) -> None:
        for step in open_steps(goals, self.context):
            if reason := self._blocked([step]):
                self.failed[step] = reason
                continue
            start = time.monotonic()
            state = run_step(step, self.context, return_state=True)
            if state.is_failed():
                self.failed[step] = reason_of(state)
                self.context.loaded.abandon()
            elif state.name != "Cached":
                several = len(self.plan.models) > 1
                label = f"{step.label} · {step.group}" if several else step.label
                took = time.monotonic() - start
                self.shared[label] = self.shared.get(label, 0.0) + took

    def _there(self, step: Step) -> bool:
        """Whether nothing is to be computed for a step; a model of its own place is never asked:
        to look for it may be to fetch it."""
        return step.outside is not None or self.context.find(step) is not None

    def _blocked(self, goals: Iterable[Step]) -> str:
        """Why goals cannot be reached: a step failed that they lack; empty where they can be."""
        lacking = walk(goals, into=lambda step: not self._there(step))
        return next((self.failed[step] for step in lacking if step in self.failed), "")

    def _settle(self, row: ModelPlan | Cell) -> None:
        """Note why a row that will not be computed has failed, and log it."""
        if reason := self._blocked(row.goals):
            self.errors[row.fingerprint] = reason
        recorder = self.recorder
        if row.fingerprint not in recorder.run_ids and not recorder.unavailable:
            record(recorder, row, self.errors.get(row.fingerprint, ""))

    def _settled(self, cell: Cell) -> bool:
        """Whether nothing is to be computed for a cell: it is complete, or what it needs failed."""
        complete = is_complete(cell.goals, self.context)
        reason = "" if complete else self._blocked(cell.goals)
        if not complete and not reason:
            return False
        with self.session.progress.work(cell.subject.label, "cell") as piece:
            if complete:
                call_task(_complete, cell, name=cell.label, return_state=True)
                piece.reused, piece.note = True, self.note(cell)
            piece.failure = reason
            self._settle(cell)
        return True

    def note(self, cell: Cell) -> str:
        """What came of a completed cell, in a few words."""
        return headline_note(row_of(cell, self.context))

    def compute(self) -> None:
        """Compute every cell that is not there yet."""
        total = len(self.plan.cells)
        description = f"{total} cells of {self.plan.config.name}"
        progress: Any = create_progress_artifact(0.0, key=None, description=description)
        todo = [cell for cell in self.plan.cells if not self._settled(cell)]
        self._require_room(todo[:1])
        done = total - len(todo)
        update_progress_artifact(progress, 100.0 * done / total)
        self.context.loaded.release(PRUNED, PLACED)
        if self.work_pool or len(devices()) > 1:
            # Other processes compute now, one of them on this one's device.
            self.context.loaded.release(DENSE)
        for _ in self._fan_out(todo):
            done += 1
            ended = {cell.fingerprint for cell in self.computed}
            self._require_room([cell for cell in todo if cell.fingerprint not in ended])
            update_progress_artifact(progress, 100.0 * done / total)

    def _name(self, cell: Cell) -> str:
        """What tells a cell from the others of its sweep."""
        several = len(self.plan.models) > 1
        return cell.recipe.label.removeprefix("" if several else f"{cell.model.spec} ")

    def _require_room(self, left: Sequence[Cell]) -> None:
        """Stop before a cell that cannot be written: the others would fail one after another."""
        for cell in left[:1]:
            model = self.context.find(cell.model.subject.weights)
            self.context.store.require_room(model, f"the next cell, {self._name(cell)}")

    def _fan_out(self, todo: list[Cell]) -> Iterator[None]:
        before = {cell.fingerprint: self._spent(cell) for cell in todo}
        computed = (
            run_in_pool(self.plan, todo, self.note, self.work_pool)
            if self.work_pool
            else run_here(self.plan, todo, self.note)
        )
        # Closed whatever happens: a cell must not outlive its sweep.
        with closing(computed) as endings:
            for ended in endings:
                if ended.error:
                    self.errors[ended.cell.fingerprint] = ended.error
                self.computed.append(ended.cell)
                now, then = self._spent(ended.cell), before[ended.cell.fingerprint]
                timing = CellTiming(
                    self._name(ended.cell), now[0] - then[0], now[1] - then[1], ended.seconds
                )
                self.timings.append(timing)
                yield

    def _spent(self, cell: Cell) -> tuple[float, float]:
        """Seconds of the cell's own pruning and measuring that the store has."""

        def seconds(steps: Iterable[Step]) -> float:
            found = (self.context.find(step) for step in steps)
            return sum(artifact.facts["step_seconds"] for artifact in found if artifact)

        return seconds([cell.pruned]), seconds(steps_of(cell.measured))

    def finish(self) -> None:
        """Log what no cell logged, compute what looks at several cells, and write the report."""
        if self.recorder.resume():
            for row in (*self.plan.models, *self.plan.cells):
                self._settle(row)
        computed = [*(self.plan.models if self.shared else ()), *self.computed]
        for row in self.recorder.learn(computed, self.errors):
            record(self.recorder, row, self.errors.get(row.fingerprint, ""))
        self._run_across()
        timings = Timings(self.shared, self.timings, time.monotonic() - self.start)
        with self.session.progress.work("sweep", "report"):
            report(self.plan, self.session, self.errors, timings)
        self.session.timings[self.plan.config.name] = timings

    def _run_across(self) -> None:
        """Compute what looks at several cells, from what they left: no cell is computed again."""
        for step in steps_of(self.plan.across):
            lost = [need for need in step.needs.values() if not self._there(need)]
            if lost:
                self.failed[step] = f"{lost[0].label} of {lost[0].group} is not there"
            else:
                self._run([step])
            if reason := self.failed.get(step):
                self.errors[step.fingerprint] = f"{step.label}: {reason}"

    def state(self) -> Any:
        """How the flow ends."""
        cells, errors = self.plan.cells, self.errors
        failed = [self._name(cell) for cell in cells if cell.fingerprint in errors]
        if not errors:
            return Completed(message=f"{len(cells)} cells completed")
        message = f"{len(cells) - len(failed)} cells completed, {len(failed)} failed"
        first = next(iter(errors.values()))
        if not failed:
            broken = [m.spec for m in self.plan.models if m.fingerprint in errors]
            what = f"of the dense {', '.join(broken)}: " if broken else "of all together: "
            text = f"{message}; {what}{first}"
            return Completed(name="PartiallyCompleted", message=text)
        if len(failed) == len(cells):
            return Failed(message=f"{message}: {first}")
        return Completed(name="PartiallyCompleted", message=f"{message}: {', '.join(failed)}")
