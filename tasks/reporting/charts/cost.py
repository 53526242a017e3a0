"""Quality against a cost: a panel a target, the front joined, what it beats paler."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.measures.figures import PRUNING, Figure
from tasks.reporting import views
from tasks.reporting.charts.axis import Axis, is_log, value_axis
from tasks.reporting.charts.chart import (
    Chart,
    Line,
    Mark,
    Panel,
    asides_of,
    axis_label,
    file_word,
    mark_text,
)
from tasks.reporting.charts.pareto import pareto_front
from tasks.reporting.rows import DENSE, Row
from tasks.reporting.text import scaled, short_name, shown
from tasks.reporting.views import Point

SECTION = "What a quality costs"
NOTE = (
    "A panel a target. Joined: what no other method beats in both. Paler: what another beats. The "
    "dense model competes where it has the cost too."
)
_LEAST_DIFFERENCE = 0.01
"""Costs that differ by less than this part leave nothing to choose."""
_LEAST = 1e-3
"""A cost below this stands here on a logarithmic axis."""


@dataclass(frozen=True)
class _Cell:
    """A point and its cost."""

    cost: float
    point: Point


def against_cost(
    rows: Sequence[Row], model: str, quality: Figure, cost: Figure, figures: Sequence[Figure]
) -> Chart | None:
    """None where no target has cells that cost differently.

    A cell with a seed that diverged or failed is beaten by any that has none. What pruning took is
    compared among cells; what the model then costs is compared with the dense model's too.

    Args:
        figures: those that a mark tells, if they are headline ones.
    """
    cells = [
        _Cell(at, point)
        for point in views.points(rows, model, quality)
        if (at := views.mean(_costs(point, rows, cost))) is not None
    ]
    dense = _dense(rows, model, quality, cost)
    chosen = {
        target: found
        for target in views.targets(cell.point for cell in cells)
        if _differ(found := [*dense, *(c for c in cells if c.point.target == target)], cost)
    }
    if not chosen:
        return None
    costs = [scaled(cost, cell.cost) for found in chosen.values() for cell in found]
    log = is_log(cost, [max(at, _LEAST) for at in costs])
    places = [max(at, _LEAST) for at in costs] if log else costs
    x = value_axis(axis_label(cost), places, log=log, most=6, gap=0.17)
    own = views.dense_value(rows, model, quality)
    # In each panel with the dense model's line, unless the dense model is a mark.
    line = None if own is None or dense or not math.isfinite(own) else scaled(quality, own)
    named = ("sparsity", quality.column, cost.column)
    told = [figure for figure in figures if figure.headline or figure.column in named]
    panels = [
        _panel(target, found, rows, (quality, cost, line), x, told)
        for target, found in chosen.items()
    ]
    good = (
        ("lower" if quality.better == "lower" else "upper"),
        ("left" if cost.better == "lower" else "right"),
    )
    return Chart(
        stem=f"{file_word(quality)}-vs-{file_word(cost)}",
        title=short_name(model),
        note=f"{quality.label} against {cost.label}\n"
        f"{good[0]} {good[1]} is better; paler: beaten by another",
        section=SECTION,
        panels=panels,
        dense=line,
        dense_text="dense" if own is None else f"dense ({shown(quality, own)})",
        front="Pareto front" if any(panel.lines for panel in panels) else "",
        asides=asides_of([c.point for found in chosen.values() for c in found]),
        columns=3,
        share_y=False,
    )


def _costs(point: Point, rows: Sequence[Row], cost: Figure) -> list[float | None]:
    return [cost.total(row) if views.is_comparable(row, rows, cost) else None for row in point.rows]


def _dense(rows: Sequence[Row], model: str, quality: Figure, cost: Figure) -> list[_Cell]:
    row, value = views.dense_row(rows, model), views.dense_value(rows, model, quality)
    at = cost.total(row) if row else None
    if cost in PRUNING or row is None or value is None or at is None:
        return []
    return [_Cell(at, Point(method=DENSE, target="", rows=(row,), values=(value,)))]


def _differ(cells: Sequence[_Cell], cost: Figure) -> bool:
    values = [cell.cost for cell in cells]
    if len(cells) < 2 or cost in PRUNING:
        # Which plots there are shall not hang on how time and memory of two cells fell.
        return len(cells) > 1
    least = max(_LEAST_DIFFERENCE, views.noise(cost))
    return max(values) - min(values) > least * max(values)


def _panel(
    target: str,
    cells: Sequence[_Cell],
    rows: Sequence[Row],
    measured: tuple[Figure, Figure, float | None],
    x: Axis,
    told: Sequence[Figure],
) -> Panel:
    quality, cost, line = measured
    worst = math.inf if quality.better == "lower" else -math.inf
    coordinates = [
        (c.cost, c.point.mean if c.point.is_whole and c.point.mean is not None else worst)
        for c in cells
    ]
    better = (cost.better == "lower", quality.better == "lower")
    flags = pareto_front(coordinates, lower_is_better=better, noise=(views.noise(cost), 0.0))
    marks: list[Mark] = []
    for cell, (_, value), flag in zip(cells, coordinates, flags, strict=True):
        point, on_front = cell.point, flag and math.isfinite(value)
        at = scaled(cost, cell.cost)
        marks.append(
            Mark(
                method=point.method,
                x=max(at, _LEAST) if x.log else at,
                y=None if point.mean is None else scaled(quality, point.mean),
                bar=scaled(quality, point.standard_error or 0.0),
                diverged=point.diverged,
                pale=not on_front,
                text=mark_text(
                    point.rows, rows, told, "on the front" if on_front else "beaten by another"
                ),
            )
        )
    values = [scaled(quality, value) for cell in cells for value in cell.point.values]
    values += [m.y + end for m in marks if m.y is not None for end in (-m.bar, m.bar)]
    values += [] if line is None else [line]
    y = value_axis(axis_label(quality), values, log=is_log(quality, values))
    front = sorted((m.x, m.y) for m in marks if not m.pale and m.y is not None)
    lines = [Line("", front)] if len(front) > 1 else []
    return Panel(title=target, x=x, y=y, marks=marks, lines=lines)
