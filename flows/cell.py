"""The ``cell`` flow: prepare → prune → evaluate → record."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.states import Failed

from configs.schema import SweepConfig
from tasks.plan.plan import Cell, Plan
from tasks.steps.measuring import measure_all
from tasks.steps.planning import plan_of, store
from tasks.steps.prepare import collect, prepare_model, tokenise
from tasks.steps.prune import history_of, prune
from tasks.steps.record import record
from tasks.steps.report import needed_artifacts
from tasks.steps.rows import cell_row
from tasks.steps.subject import Subject, release
from tasks.store.store import Store


def find_cell(plan: Plan, model: str, method: str, target: str, seed: int) -> Cell:
    """The cell of a plan by its axes.

    Raises:
        LookupError: when the sweep has no such cell.
    """
    for cell in plan.cells:
        axes = (cell.model.model.spec, cell.name, str(cell.target), cell.seed)
        if axes == (model, method, target, seed):
            return cell
    raise LookupError(f"the sweep has no cell {method} {target} of {model} with seed {seed}")


def _release(cell: Cell, kept: Store) -> None:
    """Drop a checkpoint that this sweep does not keep, unless another one does."""
    step = cell.checkpoint
    with kept.lock(step):
        if f"{step.name}/{step.fingerprint}" not in needed_artifacts():
            kept.drop(step)


@flow(name="cell", flow_run_name="{method} {target} · {model} · seed {seed}", persist_result=False)
def run_cell(config: SweepConfig, model: str, method: str, target: str, seed: int) -> Any:
    """Compute one cell of a sweep; whatever is in the store already is taken from it.

    Args:
        config: the whole sweep, as resolved.
        model: one of its models.
        method: one of its methods or variants.
        target: one of its targets, such as 0.5 or 2:4.
        seed: one of its seeds.
    """
    plan, kept = plan_of(config), store()
    cell = find_cell(plan, model, method, target, seed)
    trust = config.trust
    try:
        prepare_model(cell.model, kept, trust)
        if cell.method.uses_calibration and cell.model.calibration:
            tokenise(cell.model, cell.model.calibration, kept, trust)
        if cell.method.uses_training and cell.model.training:
            tokenise(cell.model, cell.model.training, kept, trust)
        if cell.statistics_windows:
            collect(cell.model, cell.statistics_windows, kept, trust)
        prune(cell, kept, trust, config.save_checkpoints)
        for windows in cell.model.evaluations.values():
            tokenise(cell.model, windows, kept, trust)
        measure_all(Subject(cell.model, cell), kept, trust, config.evaluation)
    except Exception as error:  # noqa: BLE001 (recorded, then the flow fails with it)
        message = f"{type(error).__name__}: {error}"
        record(plan, cell_row(cell, kept, message), return_state=True)
        return Failed(message=message, data=error)
    finally:
        release()
    if not config.save_checkpoints:
        _release(cell, kept)
    row = cell_row(cell, kept)
    record(plan, row, history_of(cell, kept), return_state=True)
    return {"status": row["status"], "fingerprint": cell.fingerprint}
