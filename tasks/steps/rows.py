"""One row of ``results.csv`` for each cell and each dense model, from the store's facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.plan.measures import Measures
from tasks.plan.plan import Cell, ModelPlan, Plan, Skipped
from tasks.steps.zero_shot import result_of
from tasks.store.store import Artifact, Store, fingerprint

Row = dict[str, Any]

SPEED_COLUMNS = (
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "latency_p50_ms",
    "latency_p95_ms",
    "peak_memory_bytes",
    "hardware",
    "device",
)


def _measured(measures: Measures, store: Store) -> tuple[Row, bool]:
    """What the store holds of a subject's measures, as columns; and whether that is all."""
    found = {step: store.find(step) for step in measures.steps()}
    row: Row = {}
    for name, step in measures.perplexity.items():
        if artifact := found[step]:
            row |= _perplexity_columns(name, artifact.facts)
    for name, step in measures.zero_shot.items():
        if artifact := found[step]:
            row |= _zero_shot_columns(name, artifact)
    judged = [artifact for s in measures.zero_shot.values() if (artifact := found[s])]
    if measures.zero_shot and len(judged) == len(measures.zero_shot):
        row["zero_shot/mean"] = _zero_shot_mean(judged)
    if measures.speed and (artifact := found[measures.speed]):
        row |= {f"speed/{name}": artifact.facts[name] for name in SPEED_COLUMNS}
    if measures.reconstruction and (artifact := found[measures.reconstruction]):
        row["reconstruction_error"] = float(artifact.facts["mean"])
    done = [artifact.facts for artifact in found.values() if artifact]
    if done:
        row["evaluate_seconds"] = sum(facts.get("seconds", 0.0) for facts in done)
        peaks = [facts["peak_memory_bytes"] for facts in done if "peak_memory_bytes" in facts]
        row["peak_memory_bytes"] = max(peaks, default=0)
    return row, all(found.values())


def _perplexity_columns(name: str, facts: Mapping[str, Any]) -> Row:
    row: Row = {f"perplexity/{name}": float(facts["perplexity"])}
    if "kl" in facts:
        row[f"kl/{name}"] = float(facts["kl"])
        row[f"top1_agreement/{name}"] = facts["top1_agreement"]
    shared = ("parameters", "nonzero_parameters", "bytes_on_disk")
    return row | {column: facts[column] for column in shared}


def _zero_shot_columns(name: str, artifact: Artifact) -> Row:
    row: Row = {}
    for metric, figures in result_of(artifact).metrics.items():
        row[f"zero_shot/{name}/{metric}"] = figures.value
        if figures.stderr is not None:
            row[f"zero_shot/{name}/{metric}_stderr"] = figures.stderr
    return row


def _zero_shot_mean(artifacts: Iterable[Artifact]) -> float | None:
    """Mean over tasks of each task's main metric."""
    values = [value for a in artifacts if (value := result_of(a).value) is not None]
    return sum(values) / len(values) if values else None


def dense_fingerprint(model: ModelPlan) -> str:
    """Identifies a dense model's row."""
    return fingerprint(
        {
            "model": model.model.digest,
            "method": "dense",
            "measures": model.dense.fingerprints,
        }
    )


def _dense_columns(model: ModelPlan, store: Store) -> Row:
    measured, _ = _measured(model.dense, store)
    return {
        f"dense_{name}": value for name, value in measured.items() if name.startswith("perplexity/")
    }


def dense_row(model: ModelPlan, store: Store, error: str = "") -> Row:
    """The row of a model as it came."""
    measured, complete = _measured(model.dense, store)
    return {
        "model": model.model.spec,
        "method": "dense",
        "target": "",
        "seed": None,
        "status": "completed" if complete else "failed",
        "error": "" if complete else error or "not evaluated",
        "sparsity": 0.0,
        **_dense_columns(model, store),
        "prune_seconds": 0.0,
        "calibration_seconds": 0.0,
        "learned": "",
        "training_tokens": 0,
        **measured,
        "checkpoint": "",
        "mlflow_run_id": "",
        "fingerprint": dense_fingerprint(model),
    }


def cell_row(cell: Cell, store: Store, error: str = "") -> Row:
    """The row of a cell; ``failed`` unless everything it needs is in the store."""
    pruned = store.find(cell.pruned)
    measured, all_there = _measured(cell.measures, store)
    complete = pruned is not None and all_there
    facts = pruned.facts if pruned else {}
    measured["peak_memory_bytes"] = max(
        measured.get("peak_memory_bytes", 0), facts.get("peak_memory_bytes", 0)
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
        **_dense_columns(cell.model, store),
        "prune_seconds": facts.get("prune_seconds"),
        "calibration_seconds": facts.get("calibration_seconds"),
        "learned": facts.get("learned", ""),
        "training_tokens": facts.get("training_tokens", 0),
        **measured,
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
