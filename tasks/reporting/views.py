"""What tables and charts read out of rows: ratios, groups of seeds, the best method."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.measures.figures import PRUNING, Figure, Value
from tasks.reporting.ordering import target_key, target_text
from tasks.reporting.rows import Row, is_completed, is_dense
from tasks.reporting.text import format_count, shown

NOISE = 0.1
"""Of speed, time and memory, which other work on the machine disturbs."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One figure of the completed seeds of one method, selection and target of one model."""

    method: str
    """The method, and the selection where the sweep compares several."""
    target: str
    rows: tuple[Row, ...]
    """One a seed."""
    values: tuple[float, ...]
    """The figure, one a seed; inf where the model diverged."""
    error: float | None = None
    """Standard error of the figure, mean over the seeds; None where it has none."""
    lost: int = 0
    """Further seeds, whose cells failed."""

    @property
    def finite(self) -> tuple[float, ...]:
        return tuple(value for value in self.values if math.isfinite(value))

    @property
    def diverged(self) -> bool:
        """Whether any seed did."""
        return len(self.finite) < len(self.values)

    @property
    def is_whole(self) -> bool:
        """Whether its mean is of all seeds; else it is of the lucky ones, and beats nobody's."""
        return not self.diverged and not self.lost

    @property
    def mean(self) -> float | None:
        """Mean of the seeds that did not diverge; None when all did."""
        # Rounding can take the mean of equal values out of their range.
        found = mean(self.finite)
        return None if found is None else min(max(found, min(self.finite)), max(self.finite))

    @property
    def over_seeds(self) -> float | None:
        """Standard error of the mean over the seeds; None where they tell nothing.

        Fewer than two that did not diverge do not, nor those that are all alike: a method without
        randomness on fixed windows has one result, however often it is listed.
        """
        if len(set(self.finite)) < 2:
            return None
        return statistics.stdev(self.finite) / math.sqrt(len(self.finite))

    @property
    def standard_error(self) -> float | None:
        """Of the mean: the figure's own and the seeds' together; None where neither is known."""
        known = [error for error in (self.error, self.over_seeds) if error is not None]
        return math.hypot(*known) if known else None

    @property
    def ends(self) -> tuple[float, ...]:
        """Where its bar of one standard error ends; empty without one."""
        if self.mean is None or self.standard_error is None:
            return ()
        return (self.mean - self.standard_error, self.mean + self.standard_error)


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None when none is."""
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def models(rows: Iterable[Mapping[str, Value]]) -> list[str]:
    """Names of the models, in order of appearance."""
    return list(dict.fromkeys(str(row.get("model")) for row in rows))


def of_model(rows: Iterable[Row], model: str) -> list[Row]:
    """The rows of one model."""
    return [row for row in rows if str(row.get("model")) == model]


def dense_row(rows: Iterable[Row], model: str) -> Row | None:
    """The model's own."""
    return next((row for row in rows if is_dense(row) and str(row.get("model")) == model), None)


def dense_value(rows: Sequence[Row], model: str, figure: Figure) -> float | None:
    """The dense model's: from its row, what a cell recorded of it, or what the figure says."""
    own = dense_row(rows, model)
    value = figure.value(own) if own else None
    if value is not None:
        return value
    told = (row.get(figure.of_dense) for row in of_model(rows, model))
    return next((float(value) for value in told if isinstance(value, int | float)), figure.dense)


def is_comparable(row: Row, rows: Sequence[Row], figure: Figure) -> bool:
    """Whether the figure was found where the dense model's was, or else where the first row's was.

    Always, unless the figure names a column that must agree.
    """
    if not figure.comparable:
        return True
    mine = [r for r in of_model(rows, str(row.get("model"))) if figure.value(r) is not None]
    first = sorted(mine, key=lambda other: not is_dense(other))[:1]
    return all(other.get(figure.comparable) == row.get(figure.comparable) for other in first)


def ratio(row: Row, rows: Sequence[Row], figure: Figure) -> float | None:
    """The figure as a multiple of the dense model's; None where either is missing, or where they
    do not compare."""
    mine = figure.value(row)
    dense = dense_value(rows, str(row.get("model")), figure)
    if mine is None or not dense or not is_comparable(row, rows, figure):
        return None
    return mine / dense


def points(
    rows: Sequence[Row], model: str, figure: Figure, *, relative: bool = False
) -> list[Point]:
    """Completed cells of ``model`` with a figure that compares, seeds together, as rows come.

    Args:
        relative: as multiples of the dense model's.
    """
    groups: dict[tuple[str, str], list[tuple[float, Row]]] = {}
    mine = of_model(rows, model)
    lost = Counter(group_of(row) for row in mine if not is_completed(row))
    for row in mine:
        value = ratio(row, mine, figure) if relative else figure.total(row)
        if value is None or not is_completed(row) or is_dense(row):
            continue
        if is_comparable(row, mine, figure):
            groups.setdefault(group_of(row), []).append((value, row))
    return [
        Point(
            method=method,
            target=target,
            rows=tuple(row for _, row in group),
            values=tuple(value for value, _ in group),
            error=None if relative else mean(figure.standard_error(row) for _, row in group),
            lost=lost[method, target],
        )
        for (method, target), group in groups.items()
    ]


def learning(row: Mapping[str, Value]) -> str:
    """``weights, 51k tokens`` for a method that retrained, ``mask, …`` for one that learned a mask.

    Empty for methods that do not learn: they change what they prune once, from calibration alone.
    """
    what, tokens = row.get("learned"), row.get("training_tokens")
    if not what or not tokens or not isinstance(tokens, int | float):
        return ""
    return f"{what}, {format_count(tokens)} tokens"


def departure(row: Mapping[str, Value]) -> str:
    """How a cell's method departs from its paper; empty where it does what the paper says."""
    return str(row.get("departs") or "")


def best(rows: Sequence[Row], model: str, figure: Figure) -> set[tuple[str, str]]:
    """(method, target) of the best mean of each target, of a figure with a direction.

    Never a method with a seed that diverged or failed. Methods that tie with the best are best too,
    and so is what lies between; where that is all, nothing is. What tables show alike ties, and so
    does what noise cannot tell apart: one standard error, or :data:`NOISE` of what the machine
    disturbs.
    """
    winners: set[tuple[str, str]] = set()
    found = points(rows, model, figure) if figure.better else []
    for target in {point.target for point in found}:
        rivals = [point for point in found if point.target == target]
        sound = [(p.mean, p) for p in rivals if p.mean is not None and p.is_whole]
        if not sound:
            continue
        choose = min if figure.better == "lower" else max
        top, winner = choose(sound, key=lambda pair: pair[0])
        distances = [
            abs(value - top)
            for value, point in sound
            if shown(figure, value) == shown(figure, top)
            or abs(value - top) <= noise(figure) * abs(top)
            or abs(value - top) < math.hypot(point.standard_error or 0, winner.standard_error or 0)
        ]
        # A large error of its own shall not put a worse mean before one that is better known.
        marked = [point for value, point in sound if abs(value - top) <= max(distances)]
        if len(marked) < len(rivals):
            winners |= {(point.method, target) for point in marked}
    return winners


def noise(figure: Figure) -> float:
    """The part by which the figure may differ between runs of the same cell."""
    return NOISE if figure.comparable or figure in PRUNING else 0.0


def targets(found: Iterable[Point]) -> list[str]:
    """Targets of the points, least sparse first."""
    return sorted({point.target for point in found}, key=target_key)


def cell_label(row: Row) -> str:
    """What a row is, in words: model, method, target and seed."""
    parts = [str(row.get("model")), *group_of(row)]
    seed = row.get("seed")
    return " ".join(part for part in parts if part) + ("" if seed is None else f", seed {seed}")


def series(row: Mapping[str, Value]) -> str:
    """What is drawn and compared as one: the method, and how its windows were chosen."""
    return " ".join(str(part) for part in (row.get("method"), row.get("selection")) if part)


def group_of(row: Mapping[str, Value]) -> tuple[str, str]:
    """What the seeds of a cell share in a model: its series and its target."""
    return series(row), target_text(row.get("target"))


def several_seeds(rows: Iterable[Row]) -> bool:
    """Whether the rows have more than one seed."""
    return len({row.get("seed") for row in rows if not is_dense(row)}) > 1
