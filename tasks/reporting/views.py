"""What the tables and plots read out of rows: figures, ratios, groups of seeds, the best method."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.measures.figures import PRUNING, Figure, Value
from tasks.reporting.ordering import target_key, target_text
from tasks.reporting.rows import Row, is_completed, is_dense
from tasks.reporting.text import format_count

SPARSITY = next(figure for figure in PRUNING if figure.column == "sparsity")


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measure of the completed seeds of one method and target of one model."""

    method: str
    target: str
    sparsity: float | None
    """Measured, mean over the seeds; None where it was not."""
    values: tuple[float, ...]
    """The measure, one a seed; inf where the model diverged."""
    error: float | None = None
    """Standard error of the measure, mean over the seeds; None where it has none."""
    learned: str = ""
    """What the method learned and from how much, as :func:`learning` says; empty for one-shot."""
    rows: tuple[Row, ...] = ()
    """Its cells, one a seed."""

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


def dense_value(rows: Iterable[Row], model: str, figure: Figure) -> float | None:
    """The dense model's: by definition, from its own row, or as a cell recorded it."""
    if figure.dense is not None:
        return figure.dense
    mine = of_model(rows, model)
    own = [figure.value(row) for row in mine if is_dense(row)]
    told = [float(v) for row in mine if isinstance(v := row.get(figure.of_dense), int | float)]
    return next((value for value in [*own, *told] if value is not None), None)


def ratio_to_dense(row: Row, rows: Sequence[Row], figure: Figure) -> float | None:
    """A multiple of the dense model's; None where either is missing, or they do not compare."""
    mine = figure.value(row)
    dense = dense_value([row, *rows], str(row.get("model")), figure)
    if mine is None or not dense or not _comparable(row, rows, figure):
        return None
    return mine / dense


def _comparable(row: Row, rows: Sequence[Row], figure: Figure) -> bool:
    if not figure.comparable:
        return True
    dense = (entry for entry in of_model(rows, str(row.get("model"))) if is_dense(entry))
    return any(entry.get(figure.comparable) == row.get(figure.comparable) for entry in dense)


def points(
    rows: Sequence[Row],
    model: str,
    figure: Figure,
    value: Callable[[Row], float | None] | None = None,
) -> list[Point]:
    """Completed cells of ``model`` that have a figure, seeds together, in the order of ``rows``.

    Args:
        value: of a row, where it is not the figure itself.
    """
    value = value or figure.value
    groups: dict[tuple[str, str], list[tuple[float, Row]]] = {}
    for row in of_model(rows, model):
        measured = value(row)
        if is_completed(row) and not is_dense(row) and measured is not None:
            key = (str(row.get("method")), target_text(row.get("target")))
            groups.setdefault(key, []).append((measured, row))
    return [
        Point(
            method=method,
            target=target,
            sparsity=mean_of(SPARSITY.value(row) for _, row in group),
            values=tuple(measured for measured, _ in group),
            error=mean_of(figure.standard_error(row) for _, row in group),
            learned=learning(group[0][1]),
            rows=tuple(row for _, row in group),
        )
        for (method, target), group in groups.items()
    ]


def learning(row: Mapping[str, Value]) -> str:
    """``weights, 51k tokens`` for a method that retrained, ``mask, …`` for one that learned a mask.

    Empty for methods that do not learn: they change what they prune once, from calibration alone.
    """
    what, tokens = row.get("learned"), row.get("training_tokens")
    return f"{what}, {format_count(float(tokens))} tokens" if what and tokens else ""


def pruning_seconds(row: Mapping[str, Value]) -> float | None:
    """Seconds of calibration and pruning together; None when pruning was not timed."""
    pruning, calibration = row.get("prune_seconds"), row.get("calibration_seconds")
    return None if pruning is None else float(pruning) + float(calibration or 0.0)


def best(rows: Sequence[Row], model: str, figure: Figure) -> set[tuple[str, str]]:
    """(method, target) of the best mean for each target.

    Only where at least two methods compete, and never a method with a seed that diverged. Methods
    that tie are all best.
    """
    winners: set[tuple[str, str]] = set()
    found = points(rows, model, figure) if figure.better else []
    choose = min if figure.better == "lower" else max
    for target in {point.target for point in found}:
        rivals = [point for point in found if point.target == target]
        means = {point.method: point.mean for point in rivals if not point.diverged}
        known = [mean for mean in means.values() if mean is not None]
        if len(rivals) > 1 and known:
            top = choose(known)
            winners |= {(method, target) for method, mean in means.items() if mean == top}
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


def mean_of(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
