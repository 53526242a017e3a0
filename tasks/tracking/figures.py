"""A row of results as metrics and tags, and the rows of a sweep as curves and as a summary."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

from tasks.measures.figures import Figure, Row
from tasks.reporting.text import short_names
from tasks.reporting.views import models, points, series
from tasks.tracking.names import clean_name, cut
from tasks.tracking.records import Points

DENSE = "dense"
Curve = tuple[str, str, str, str]
"""Model, method (and selection, where the sweep compares several), seed, kind of target."""
Place = tuple[float, str]
"""Zeros and target of a row: where it stands among the others of its curve."""


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
    """The points of each curve, the dense model's among them, by metric; one a step."""
    dense = {row["model"]: row for row in rows if row["method"] == DENSE}
    curves: dict[Curve, dict[Place, dict[str, float]]] = {}
    for row in _completed(rows):
        if row.get("sparsity") is None:
            continue
        axes = (str(row["model"]), series(row), str(row["seed"]), _kind(str(row["target"])))
        own = dense.get(row["model"], {})
        curve = curves.setdefault(axes, {(-1.0, ""): {"sparsity": _zeros(own)}})
        start = {f.column: _of_dense(f, row, own) for f in drawn(figures)}
        curve[-1.0, ""] |= finite(start)
        here = {"sparsity": _zeros(row), **metrics_of(row, drawn(figures))}
        curve[_zeros(row), str(row["target"])] = here
    wanted = {clean_name(figure.column) for figure in drawn(figures)} | {"sparsity", "diverged"}
    return {axes: _by_metric(curve, wanted) for axes, curve in curves.items()}


def _by_metric(curve: Mapping[Place, Mapping[str, float]], wanted: Collection[str]) -> Points:
    """The points by metric, sparser ones at later steps.

    MLflow draws one value a step: a point whose step is taken stands at the next one. Charts of
    the saved views draw against the metric ``sparsity``, which stays as it is.
    """
    points: dict[str, list[tuple[int, float]]] = {}
    step = -1
    for _, metrics in sorted(curve.items()):
        step = max(step + 1, _step(metrics["sparsity"]))
        for name in metrics.keys() & wanted:
            points.setdefault(name, []).append((step, metrics[name]))
    return points


def _kind(target: str) -> str:
    """Fractions are one curve; 2:4 and 4:8 are no points of each other's, at the same zeros."""
    return f"n:{target.rpartition(':')[2]}" if ":" in target else "unstructured"


def step_of(row: Row) -> int:
    """Where a row lies on a curve: zeros of a thousand weights."""
    return _step(_zeros(row))


def _step(zeros: float) -> int:
    return round(1000 * zeros)


def _zeros(row: Row) -> float:
    return float(row.get("sparsity") or 0)


def _of_dense(figure: Figure, row: Row, dense: Row) -> Any:
    found = (figure.dense, figure.value(dense), row.get(figure.of_dense))
    return next((value for value in found if value is not None), None)


def summary_of(rows: Sequence[Row], figures: Sequence[Figure]) -> dict[str, float]:
    """How many cells ended how, and each headline figure's mean over the seeds: method by target.

    None where a seed diverged or failed: the mean of the others would be of the lucky ones.
    """
    cells = [row for row in rows if row["method"] != DENSE]
    counts = Counter(row["status"] for row in cells)
    summary = {f"cells_{end}": float(counts[end]) for end in ("completed", "failed", "skipped")}
    names = short_names(models(rows))
    for figure in (figure for figure in figures if figure.headline and figure.better):
        for model, name in names.items():
            of = [name] if len(names) > 1 else []
            for point in points([dict(row) for row in rows], model, figure):
                place = (point.method, point.target)
                if point.mean is not None and point.is_whole:
                    summary[clean_name("/".join([figure.column, *of, *place]))] = point.mean
    return summary


def _completed(rows: Sequence[Row]) -> Iterator[Row]:
    """The cells that ended well."""
    return (row for row in rows if row["method"] != DENSE and row["status"] == "completed")
