"""A row of results as metrics and tags, and the rows of a sweep as curves and as a summary."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

from tasks.measures.figures import Figure, Row
from tasks.reporting.views import series
from tasks.tracking.names import clean_name, cut
from tasks.tracking.records import Points

DENSE = "dense"
Curve = tuple[str, str, str, str]
"""Model, method (and selection, where the sweep compares several), seed, kind of target."""


def finite(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers by metric name.

    MLflow's databases would store an infinity as 1.8e308 and NaN as 0.
    """
    numbers = {
        clean_name(name): float(value)
        for name, value in values.items()
        if isinstance(value, Real) and not isinstance(value, bool)
    }
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def metrics_of(row: Row, figures: Sequence[Figure]) -> dict[str, float]:
    """The row's figures by metric name, their errors and the dense model's own among them.

    ``diverged`` stands for figures with a better direction that are not finite.
    """
    names = [n for figure in figures for n in (figure.column, figure.error, figure.of_dense)]
    metrics = finite({name: row.get(name) for name in names})
    return metrics | ({"diverged": 1.0} if any(_diverged(row, f) for f in figures) else {})


def _diverged(row: Row, figure: Figure) -> bool:
    value = figure.value(row) if figure.better else None
    return value is not None and not math.isfinite(value)


def tags_of(row: Mapping[str, Any], title: str) -> dict[str, str]:
    """Whether it is a dense model or a cell, and in words how it ended."""
    kind = DENSE if row["method"] == DENSE else "cell"
    tags = {"secateur.kind": kind, "mlflow.note.content": f"{title}: {row['status']}"}
    if row.get("departs"):
        tags["departs_from_paper"] = cut(str(row["departs"]))
    if row.get("error"):
        error = cut(str(row["error"]))
        tags["error"] = error
        tags["mlflow.note.content"] += f"\n\n```\n{error}\n```"
    return tags


def drawn(figures: Sequence[Figure]) -> list[Figure]:
    """The figures that are drawn against sparsity."""
    return [figure for figure in figures if figure.headline or figure.role == "quality"]


def curves_of(rows: Sequence[Row], figures: Sequence[Figure]) -> dict[Curve, Points]:
    """The points of each curve, the dense model's among them, by metric."""
    dense = {row["model"]: row for row in rows if row["method"] == DENSE}
    curves: dict[Curve, dict[str, set[tuple[int, float]]]] = {}
    for row in _completed(rows):
        if row.get("sparsity") is None:
            continue
        kind = "n:m" if ":" in str(row["target"]) else "unstructured"
        axes = (str(row["model"]), series(row), str(row["seed"]), kind)
        curve = curves.setdefault(axes, {"sparsity": {(0, 0.0)}})
        step = step_of(row)
        curve["sparsity"].add((step, float(row["sparsity"] or 0)))
        for name, value in metrics_of(row, drawn(figures)).items():
            curve.setdefault(name, set()).add((step, value))
        start = {f.column: _of_dense(f, row, dense.get(row["model"], {})) for f in drawn(figures)}
        for name, value in finite(start).items():
            curve.setdefault(name, set()).add((0, value))
    wanted = {clean_name(figure.column) for figure in drawn(figures)} | {"sparsity", "diverged"}
    return {
        axes: {name: sorted(points) for name, points in curve.items() if name in wanted}
        for axes, curve in curves.items()
    }


def step_of(row: Row) -> int:
    """Where a row lies on a curve: per cent of zeros."""
    return round(100 * float(row.get("sparsity") or 0))


def _of_dense(figure: Figure, row: Row, dense: Row) -> Any:
    found = (figure.dense, figure.value(dense), row.get(figure.of_dense))
    return next((value for value in found if value is not None), None)


def summary_of(rows: Sequence[Row], figures: Sequence[Figure]) -> dict[str, float]:
    """How many cells ended how, and the best of each headline figure a method, over its targets."""
    counts = Counter(row["status"] for row in rows if row["method"] != DENSE)
    summary = {f"cells_{end}": float(counts[end]) for end in ("completed", "failed", "skipped")}
    for row in _completed(rows):
        for figure in (figure for figure in figures if figure.headline and figure.better):
            value = finite(row).get(clean_name(figure.column))
            best = clean_name(f"best_{figure.column}/{series(row)}")
            if value is not None and (
                best not in summary or figure.is_better(value, summary[best])
            ):
                summary[best] = value
    return summary


def _completed(rows: Sequence[Row]) -> Iterator[Row]:
    """The cells that ended well."""
    return (row for row in rows if row["method"] != DENSE and row["status"] == "completed")
