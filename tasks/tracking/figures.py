"""A row of results as metrics and tags, and the rows of a sweep as curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from tasks.tracking.names import clean_name, cut, title_of
from tasks.tracking.records import AXES


def metrics_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The row's numbers by metric name; ``diverged`` stands for those that are not finite.

    MLflow's databases would store an infinity as 1.8e308 and NaN as 0.
    """
    metrics = {}
    for column, value in row.items():
        if column in AXES or isinstance(value, bool) or not isinstance(value, Real):
            continue
        if math.isfinite(value):
            metrics[clean_name(column)] = float(value)
        elif column.startswith("perplexity/"):
            metrics["diverged"] = 1.0
    return metrics


def tags_of(row: Mapping[str, Any]) -> dict[str, str]:
    kind = "dense" if row["method"] == "dense" else "cell"
    tags = {"secateur.kind": kind, "mlflow.note.content": f"{title_of(row)}: {row['status']}"}
    if row.get("error"):
        error = cut(str(row["error"]))
        tags["error"] = error
        tags["mlflow.note.content"] += f"\n\n```\n{error}\n```"
    return tags


def curves_of(
    rows: Sequence[Mapping[str, Any]],
) -> dict[tuple[str, str, str, str], dict[str, list[tuple[int, float]]]]:
    """(model, method, seed, kind of target) → its points, the dense model's among them."""
    curves: dict[tuple[str, str, str, str], dict[str, set[tuple[int, float]]]] = {}
    for row in rows:
        if row["method"] == "dense" or row["status"] != "completed" or row.get("sparsity") is None:
            continue
        kind = "n:m" if ":" in str(row["target"]) else "unstructured"
        axes = (str(row["model"]), str(row["method"]), str(row["seed"]), kind)
        curve = curves.setdefault(axes, {"sparsity": {(0, 0.0)}})
        step = round(100 * float(row["sparsity"]))
        for key, value in metrics_of(row).items():
            if key.startswith("perplexity/") or key in ("sparsity", "diverged"):
                curve.setdefault(key, set()).add((step, value))
            elif key.startswith("dense_perplexity/"):
                curve.setdefault(key.removeprefix("dense_"), set()).add((0, value))
    return {
        axes: {name: sorted(points) for name, points in curve.items()}
        for axes, curve in curves.items()
    }
