"""What the tables and plots read out of rows: figures, ratios, groups of seeds, the best method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.reporting.ordering import target_key, target_text
from tasks.reporting.rows import (
    DENSE_PERPLEXITY,
    PERPLEXITY,
    Row,
    Value,
    is_completed,
    is_dense,
)
from tasks.reporting.text import format_count


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measure of the completed seeds of one method and target of one model."""

    method: str
    target: str
    sparsity: float | None
    """Measured, mean over the seeds; None where it was not."""
    seconds: float | None
    """Calibration and pruning, mean over the seeds; None where it was not timed."""
    values: tuple[float, ...]
    """The measure, one a seed; inf where the model diverged."""
    error: float | None = None
    """Standard error of the measure, mean over the seeds; None where it has none."""
    learned: str = ""
    """What the method learned and from how much, as :func:`learning` says; empty for one-shot."""

    @property
    def finite(self) -> tuple[float, ...]:
        return tuple(value for value in self.values if math.isfinite(value))

    @property
    def diverged(self) -> bool:
        """Whether any seed did."""
        return len(self.finite) < len(self.values)

    @property
    def mean(self) -> float | None:
        """Mean of the seeds that did not diverge; None when all did."""
        if not self.finite:
            return None
        # Rounding can take the mean of equal values out of their range.
        mean = math.fsum(self.finite) / len(self.finite)
        return min(max(mean, min(self.finite)), max(self.finite))

    @property
    def bars(self) -> tuple[float, float]:
        """Down from and up from the mean: the standard error, or else the seeds' extremes."""
        if self.mean is None:
            return (0.0, 0.0)
        if self.error is not None:
            return (self.error, self.error)
        return (self.mean - min(self.finite), max(self.finite) - self.mean)


def figure(row: Mapping[str, Value], column: str) -> float | None:
    """The number in ``column``; None where there is none."""
    value = row.get(column)
    return float(value) if isinstance(value, int | float) else None


def models(rows: Iterable[Mapping[str, Value]]) -> list[str]:
    """Names of the models, in order of appearance."""
    return list(dict.fromkeys(str(row.get("model")) for row in rows))


def of_model(rows: Iterable[Row], model: str) -> list[Row]:
    """The rows of one model."""
    return [row for row in rows if str(row.get("model")) == model]


def short_name(model: str, width: int = 40) -> str:
    """A model's name for a heading: without its folder or organisation, cut to ``width``."""
    name = model.rstrip("/").rpartition("/")[2] or model
    return name if len(name) <= width else name[: width - 3] + "..."


def dense_perplexity(rows: Iterable[Row], model: str, corpus: str) -> float | None:
    """The dense model's perplexity, from its own row or else from what a cell recorded of it."""
    mine = of_model(rows, model)
    own = [figure(row, PERPLEXITY + corpus) for row in mine if is_dense(row)]
    told = [figure(row, DENSE_PERPLEXITY + corpus) for row in mine]
    return next((value for value in [*own, *told] if value is not None), None)


def ratio_to_dense(row: Row, rows: Sequence[Row], corpus: str) -> float | None:
    """Perplexity as a multiple of the dense model's; None where either is missing."""
    mine = figure(row, PERPLEXITY + corpus)
    dense = dense_perplexity([row, *rows], str(row.get("model")), corpus)
    return mine / dense if mine is not None and dense else None


def points(rows: Sequence[Row], model: str, corpus: str) -> list[Point]:
    """Completed cells of ``model`` with a perplexity, seeds together, in the order of ``rows``."""
    return points_of(rows, model, lambda row: figure(row, PERPLEXITY + corpus))


def points_of(
    rows: Sequence[Row],
    model: str,
    measure: Callable[[Row], float | None],
    error: Callable[[Row], float | None] = lambda _: None,
) -> list[Point]:
    """Completed cells of ``model`` that have a measure, seeds together, in the order of ``rows``.

    Args:
        measure: a row's value; None where it has none.
        error: its standard error.
    """
    groups: dict[tuple[str, str], list[tuple[float, Row]]] = {}
    for row in of_model(rows, model):
        measured = measure(row)
        if is_completed(row) and not is_dense(row) and measured is not None:
            key = (str(row.get("method")), target_text(row.get("target")))
            groups.setdefault(key, []).append((measured, row))
    return [
        Point(
            method=method,
            target=target,
            sparsity=_mean(figure(row, "sparsity") for _, row in group),
            seconds=_mean(pruning_seconds(row) for _, row in group),
            values=tuple(measured for measured, _ in group),
            error=_mean(error(row) for _, row in group),
            learned=learning(group[0][1]),
        )
        for (method, target), group in groups.items()
    ]


def figure_mean(
    rows: Sequence[Row], point: Point, value: Callable[[Row], float | None]
) -> float | None:
    """Mean over the completed seeds of ``point``'s cell; None where none has the figure."""
    return _mean(
        value(row)
        for row in rows
        if is_completed(row)
        and (str(row.get("method")), target_text(row.get("target"))) == (point.method, point.target)
    )


def learning(row: Mapping[str, Value]) -> str:
    """``weights, 51k tokens`` for a method that retrained, ``mask, …`` for one that learned a mask.

    Empty for methods that do not learn: they change what they prune once, from calibration alone.
    """
    what, tokens = row.get("learned"), figure(row, "training_tokens")
    return f"{what}, {format_count(tokens)} tokens" if what and tokens else ""


def pruning_seconds(row: Row) -> float | None:
    """Seconds of calibration and pruning together; None when pruning was not timed."""
    pruning = figure(row, "prune_seconds")
    return None if pruning is None else pruning + (figure(row, "calibration_seconds") or 0.0)


def best(rows: Sequence[Row], model: str, corpus: str) -> set[tuple[str, str]]:
    """(method, target) of the lowest mean perplexity for each target.

    Only where at least two methods compete, and never a method with a seed that diverged. Methods
    that tie are all best.
    """
    winners: set[tuple[str, str]] = set()
    found = points(rows, model, corpus)
    for target in {point.target for point in found}:
        rivals = [point for point in found if point.target == target]
        means = {point.method: point.mean for point in rivals if not point.diverged}
        lowest = min((mean for mean in means.values() if mean is not None), default=None)
        if len(rivals) > 1:
            winners |= {(method, target) for method, mean in means.items() if mean == lowest}
    return winners


def targets(found: Iterable[Point]) -> list[str]:
    """Targets of the points, least sparse first."""
    return sorted({point.target for point in found}, key=target_key)


def cell_label(row: Row) -> str:
    """What a row is, in words: model, method, target and seed."""
    parts = [str(row.get("model")), str(row.get("method")), target_text(row.get("target"))]
    seed = row.get("seed")
    return " ".join(part for part in parts if part) + ("" if seed is None else f", seed {seed}")


def several_seeds(rows: Iterable[Row]) -> bool:
    """Whether the rows have more than one seed."""
    return len({row.get("seed") for row in rows if not is_dense(row)}) > 1


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
