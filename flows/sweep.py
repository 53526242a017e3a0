"""The ``sweep`` flow: shared steps → one flow for each cell → report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Cancelled, Completed, Failed

from configs.schema import SweepConfig
from flows.compute.cancelling import SweepCancelledError
from flows.compute.here import run_here, why
from flows.compute.leases import devices
from flows.compute.pool import run_in_pool
from flows.compute.pool_runs import check_pool
from tasks.plan.plan import Cell, ModelPlan, Plan
from tasks.reporting.timings import CellTiming, Timings
from tasks.runtime.progress import work
from tasks.steps.measuring import measurements
from tasks.steps.planning import checked_plan_of, store
from tasks.steps.prepare import collect, forget_dense, prepare_model, tokenise
from tasks.steps.prune import history_of, is_complete
from tasks.steps.record import complete_records, record, recorder_of, stopped
from tasks.steps.report import report, write_needs
from tasks.steps.rows import cell_row, dense_fingerprint, dense_row
from tasks.steps.states import cached
from tasks.steps.subject import Subject, release
from tasks.store.home import sweep_folder
from tasks.store.store import Store


@dataclass
class _Run:
    """What one execution of a sweep knows so far."""

    plan: Plan
    store: Store
    errors: dict[str, str] = field(default_factory=dict)
    broken_models: dict[str, str] = field(default_factory=dict)
    shared: dict[str, float] = field(default_factory=dict)
    computed: list[Cell] = field(default_factory=list)
    cells: list[CellTiming] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def timed(self, label: str, step: Callable[[], Any]) -> Any:
        """The step's state; its seconds count as shared unless it was in the store."""
        start = time.monotonic()
        state = step()
        if state.name != "Cached":
            self.shared[label] = time.monotonic() - start
        return state


_timings: dict[str, Timings] = {}


def last_timings(name: str) -> Timings | None:
    """Where the time of this process's run of a sweep went."""
    return _timings.get(name)


@flow(name="sweep", flow_run_name="{config.name}", persist_result=False)
def sweep(config: SweepConfig, work_pool: str = "") -> Any:
    """Prune every model with every method to every target, evaluate and compare.

    Args:
        config: the sweep, field by field as in a sweep file.
        work_pool: the Prefect work pool whose workers compute the cells; empty: this machine.
    """
    if work_pool:
        check_pool(work_pool)
    plan, kept = checked_plan_of(config), store()
    run = _Run(plan, kept)
    folder = sweep_folder(plan.config.name)
    folder.mkdir(parents=True, exist_ok=True)
    write_needs(plan, folder)
    progress = create_progress_artifact(
        0.0, key=None, description=f"{len(plan.cells)} cells of {plan.config.name}"
    )
    for model in plan.models:
        _prepare_shared(run, model)
    try:
        for done in _fan_out(run, work_pool):
            update_progress_artifact(progress, 100.0 * done / len(plan.cells))  # type: ignore[arg-type]
    except SweepCancelledError as error:
        stopped(plan)
        return Cancelled(message=f"{error}; what it computed stays, and the same sweep goes on")
    except BaseException:
        stopped(plan)  # a signal, or a server that is gone
        raise
    complete_records(plan, kept, run.computed, run.errors)
    timings = Timings(run.shared, run.cells, time.monotonic() - run.start)
    with work("sweep", "report"):
        report(plan, kept, run.errors, timings)
    _timings[plan.config.name] = timings
    return _ended(plan, run.errors)


def _shared_label(run: _Run, model: ModelPlan, step: str) -> str:
    return step if len(run.plan.models) == 1 else f"{step} · {model.model.spec}"


def _ended(plan: Plan, errors: dict[str, str]) -> Any:
    failed = [cell.label for cell in plan.cells if cell.fingerprint in errors]
    if not failed and not errors:
        return Completed(message=f"{len(plan.cells)} cells completed")
    message = f"{len(plan.cells) - len(failed)} cells completed, {len(failed)} failed"
    if not failed:
        broken = [m.model.spec for m in plan.models if dense_fingerprint(m) in errors]
        text = f"{message}; of the dense {', '.join(broken)}: {next(iter(errors.values()))}"
        return Completed(name="PartiallyCompleted", message=text)
    if len(failed) == len(plan.cells):
        return Failed(message=f"{message}: {next(iter(errors.values()))}")
    return Completed(name="PartiallyCompleted", message=f"{message}: {', '.join(failed)}")


def _prepare_shared(run: _Run, model: ModelPlan) -> None:
    """What all cells of a model share, once and first; a failure here fails only what needs it."""
    config, kept = run.plan.config, run.store
    spec, trust = model.model.spec, config.trust
    state = run.timed(
        _shared_label(run, model, "prepare"),
        lambda: prepare_model(model, kept, trust, return_state=True),
    )
    if state.is_failed():
        run.broken_models[spec] = why(state)
        run.errors[dense_fingerprint(model)] = why(state)
        return
    errors: list[str] = []
    for name, windows in model.evaluations.items():
        tokenised = run.timed(
            _shared_label(run, model, f"tokenise {name}"),
            lambda windows=windows: tokenise(model, windows, kept, trust, return_state=True),
        )
        errors += [why(tokenised)] if tokenised.is_failed() else []
    for label, step in measurements(Subject(model), kept, trust, config.evaluation):
        state = run.timed(
            _shared_label(run, model, f"dense {label}"), lambda step=step: step(return_state=True)
        )
        errors += [why(state)] if state.is_failed() else []
    if errors:
        run.errors[dense_fingerprint(model)] = errors[0]
    open_cells = [
        cell
        for cell in run.plan.cells
        if cell.model is model
        and not is_complete(cell, kept, keep_checkpoint=config.save_checkpoints)
    ]
    if model.calibration and any(cell.method.uses_calibration for cell in open_cells):
        calibration = model.calibration
        run.timed(
            _shared_label(run, model, "tokenise calibration"),
            lambda: tokenise(model, calibration, kept, trust, return_state=True),
        )
    if model.training and any(cell.method.uses_training for cell in open_cells):
        training = model.training
        run.timed(
            _shared_label(run, model, "tokenise training"),
            lambda: tokenise(model, training, kept, trust, return_state=True),
        )
    for count in sorted({cell.statistics_windows for cell in open_cells} - {0}):
        # A failure shows again, with its reason, in each cell that needs the statistics.
        run.timed(
            _shared_label(run, model, "statistics"),
            lambda count=count: collect(model, count, kept, trust, return_state=True),
        )
    _record(run, dense_row(model, kept, run.errors.get(dense_fingerprint(model), "")))


@task(name="cell", task_run_name="{cell.label}", cache_policy=NO_CACHE, persist_result=False)
def complete_cell(cell: Cell) -> Any:
    """A cell that the store holds in full: no flow is started for it."""
    return cached(cell.fingerprint)


def _settled(run: _Run, cell: Cell) -> bool:
    """Whether nothing is to be computed for a cell: the store holds it, or its model is broken."""
    spec, kept = cell.model.model.spec, run.store
    if is_complete(cell, kept, keep_checkpoint=run.plan.config.save_checkpoints):
        with work(f"{spec} {cell.label}", "cell") as piece:
            complete_cell(cell, return_state=True)
            piece.reused = True
            piece.note = _note(cell_row(cell, kept))
            _record(run, cell_row(cell, kept), cell)
        return True
    if spec in run.broken_models:
        with work(f"{spec} {cell.label}", "cell") as piece:
            run.errors[cell.fingerprint] = piece.failure = run.broken_models[spec]
        return True
    return False


def _fan_out(run: _Run, work_pool: str) -> Iterator[int]:
    """Compute every cell that is not there yet, and count those that are done."""
    todo = [cell for cell in run.plan.cells if not _settled(run, cell)]
    done = len(run.plan.cells) - len(todo)
    yield done
    before = {cell.fingerprint: _spent(cell, run.store) for cell in todo}

    def note(cell: Cell) -> str:
        return _note(cell_row(cell, run.store))

    release()
    if work_pool or len(devices()) > 1:
        forget_dense()  # other processes compute now, one of them on this one's device
    computed = (
        run_in_pool(run.plan, todo, note, work_pool)
        if work_pool
        else run_here(run.plan, todo, note)
    )
    # Closed whatever happens: a cell must not outlive its sweep.
    with closing(computed) as endings:
        for ended in endings:
            if ended.error:
                run.errors[ended.cell.fingerprint] = ended.error
            run.computed.append(ended.cell)
            now, then = _spent(ended.cell, run.store), before[ended.cell.fingerprint]
            run.cells.append(
                CellTiming(
                    ended.cell.label,
                    prune=now[0] - then[0],
                    evaluate=now[1] - then[1],
                    wall=ended.seconds,
                )
            )
            done += 1
            yield done


def _spent(cell: Cell, kept: Store) -> tuple[float, float]:
    """Seconds of the cell's own pruning and evaluation, checkpoint included, that the store has."""
    pruned = kept.find(cell.pruned)
    evaluated = [kept.find(step) for step in cell.measures.steps()]
    return (
        pruned.facts["step_seconds"] if pruned else 0.0,
        sum(found.facts["step_seconds"] for found in evaluated if found),
    )


def _note(row: dict[str, Any]) -> str:
    figures = [f"{value:.5g}" for name, value in row.items() if name.startswith("perplexity/")]
    return f"perplexity {', '.join(figures)}, sparsity {row['sparsity']:.1%}"


def _record(run: _Run, row: dict[str, Any], cell: Cell | None = None) -> None:
    """Log a row that no cell flow logs, unless the tracking server has it."""
    recorder = recorder_of(run.plan)
    if row["fingerprint"] not in recorder.run_ids and not recorder.unavailable:
        history = history_of(cell, run.store) if cell else []
        record(run.plan, row, history, return_state=True)
