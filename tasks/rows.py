"""One row of ``results.csv`` for each cell and each dense model, from the store's facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.evaluate import perplexity_of
from tasks.plan import Cell, ModelPlan, Plan, Skipped
from tasks.store import Store, fingerprint

Row = dict[str, Any]


def _evaluated(steps: Mapping[str, Any], store: Store) -> tuple[Row, Row]:
    """(perplexity columns, what all evaluations have in common); empty where one is missing."""
    figures: Row = {}
    common: Row = {}
    for name, step in steps.items():
        if artifact := store.find(step):
            facts = artifact.facts
            figures[f"perplexity/{name}"] = perplexity_of(artifact)
            common["evaluate_seconds"] = common.get("evaluate_seconds", 0.0) + facts["seconds"]
            common["parameters"] = facts["parameters"]
            common["nonzero_parameters"] = facts["nonzero_parameters"]
            peak = facts["peak_memory_bytes"]
            common["peak_memory_bytes"] = max(common.get("peak_memory_bytes", 0), peak)
    return figures, common


def dense_fingerprint(model: ModelPlan) -> str:
    """Identifies a dense model's row."""
    return fingerprint(
        {
            "model": model.model.digest,
            "method": "dense",
            "evaluated": {name: step.fingerprint for name, step in model.dense.items()},
        }
    )


def _dense_columns(model: ModelPlan, store: Store) -> Row:
    figures, _ = _evaluated(model.dense, store)
    return {f"dense_{name}": value for name, value in figures.items()}


def dense_row(model: ModelPlan, store: Store, error: str = "") -> Row:
    """The row of a model as it came."""
    figures, common = _evaluated(model.dense, store)
    complete = len(figures) == len(model.dense)
    return {
        "model": model.model.spec,
        "method": "dense",
        "target": "",
        "seed": None,
        "status": "completed" if complete else "failed",
        "error": "" if complete else error or "not evaluated",
        "sparsity": 0.0,
        **figures,
        **_dense_columns(model, store),
        "prune_seconds": 0.0,
        "calibration_seconds": 0.0,
        "learned": "",
        "training_tokens": 0,
        **common,
        "checkpoint": "",
        "mlflow_run_id": "",
        "fingerprint": dense_fingerprint(model),
    }


def cell_row(cell: Cell, store: Store, error: str = "") -> Row:
    """The row of a cell; ``failed`` unless everything it needs is in the store."""
    pruned = store.find(cell.pruned)
    figures, common = _evaluated(cell.evaluated, store)
    complete = pruned is not None and len(figures) == len(cell.evaluated)
    facts = pruned.facts if pruned else {}
    common["peak_memory_bytes"] = max(
        common.get("peak_memory_bytes", 0), facts.get("peak_memory_bytes", 0)
    )
    checkpoint = store.path(cell.checkpoint)
    return {
        "model": cell.model.model.spec,
        "method": cell.name,
        "target": str(cell.target),
        "seed": cell.seed,
        "status": "completed" if complete else "failed",
        "error": "" if complete else error or "not computed",
        "sparsity": facts.get("sparsity"),
        **figures,
        **_dense_columns(cell.model, store),
        "prune_seconds": facts.get("prune_seconds"),
        "calibration_seconds": facts.get("calibration_seconds"),
        "learned": facts.get("learned", ""),
        "training_tokens": facts.get("training_tokens", 0),
        **common,
        "checkpoint": str(checkpoint) if complete and checkpoint.exists() else "",
        "mlflow_run_id": "",
        "fingerprint": cell.fingerprint,
    }


def skipped_row(skipped: Skipped) -> Row:
    """The row of a combination that its method cannot do."""
    return {
        "model": skipped.model,
        "method": skipped.method,
        "target": skipped.target,
        "seed": skipped.seed,
        "status": "skipped",
        "error": skipped.reason,
    }


def rows_of(plan: Plan, store: Store, errors: Mapping[str, str]) -> list[Row]:
    """All rows of a sweep: dense models, cells, skipped combinations.

    Args:
        errors: row fingerprint → why it failed.
    """
    dense = [
        dense_row(model, store, errors.get(dense_fingerprint(model), "")) for model in plan.models
    ]
    cells = [cell_row(cell, store, errors.get(cell.fingerprint, "")) for cell in plan.cells]
    return dense + cells + [skipped_row(skipped) for skipped in plan.skipped]
