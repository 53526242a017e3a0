"""The ``cell`` flow: whatever its row lacks, step by step, then its record."""

from __future__ import annotations

import logging
from typing import Any

from prefect import flow
from prefect.states import Failed

from configs.schema import SweepConfig
from tasks.models.resident import PLACED, PRUNED
from tasks.steps.record import record, recorder_of
from tasks.steps.run import open_steps, run_step
from tasks.steps.session import session
from tasks.store.needs import needed_artifacts, needs_settled
from tasks.store.steps import Step
from tasks.store.store import Store

_LOG = logging.getLogger("secateur.cell")


@flow(name="cell", flow_run_name="{method} {target} · {model} · seed {seed}", persist_result=False)
def run_cell(
    config: SweepConfig, model: str, method: str, target: str, seed: int, selection: str = ""
) -> Any:
    """Compute one cell of a sweep; whatever is in the store already is taken from it.

    Args:
        config: the whole sweep, as resolved.
        model: one of its models.
        method: one of its methods or variants.
        target: one of its targets, such as 0.5 or 2:4.
        seed: one of its seeds.
        selection: one of its selections; empty where it has none.
    """
    here = session()
    plan, context = here.plan(config), here.context(config)
    cell = plan.cell(model, method, target, seed, selection)
    try:
        for step in open_steps(cell.goals, context):
            run_step(step, context)
    except Exception as error:  # noqa: BLE001 (recorded, then the flow fails with it)
        context.loaded.abandon()  # what an error left of the dense model is nobody's to use
        message = f"{type(error).__name__}: {error}"
        record(recorder_of(plan, here, of_cell=True), cell, message)
        return Failed(message=message, data=error)
    finally:
        context.loaded.release(PRUNED, PLACED)
    if not cell.kept:
        _drop(cell.checkpoint, context.store, plan.config.name)
    record(recorder_of(plan, here, of_cell=True), cell)
    return cell.fingerprint


def _drop(checkpoint: Step, store: Store, sweep: str) -> None:
    """Drop a checkpoint that this sweep does not keep, unless another one needs it.

    Where that cannot be told the checkpoint stays: tidying up decides nothing of a cell.
    """
    with store.lock(checkpoint.place), needs_settled():
        try:
            needed = needed_artifacts(besides=sweep)
        except ValueError as error:
            _LOG.warning(
                "%s cannot be read, so it is not known what is still needed, and checkpoints stay: "
                "run the sweep of that folder again, or delete the folder",
                error,
            )
            return
        if checkpoint.place not in needed:
            store.drop(checkpoint.place)
