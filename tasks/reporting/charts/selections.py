"""A figure by how windows were chosen: a point a seed, and a line that pairs what differs in
nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tasks.measures.figures import Figure
from tasks.reporting.charts.axis import Axis, is_log, value_axis
from tasks.reporting.charts.chart import (
    Chart,
    Line,
    Mark,
    Panel,
    axis_label,
    file_word,
    mark_text,
)
from tasks.reporting.ordering import target_text
from tasks.reporting.rows import Row, is_completed
from tasks.reporting.text import scaled, short_name

SECTION = "By how windows were chosen"
NOTE = "Each point is a seed; a line joins the cells of one method and seed."


def by_selection(
    rows: Sequence[Row], model: str, figure: Figure, figures: Sequence[Figure]
) -> Chart | None:
    """``figure`` of every seed by selection, a panel a target; None without several selections.

    Args:
        figures: those that a mark tells, if they are headline ones.
    """
    found = [
        row
        for row in rows
        if is_completed(row) and row.get("selection") and figure.value(row) is not None
    ]
    selections = list(dict.fromkeys(str(row["selection"]) for row in found))
    if len(selections) < 2:
        return None
    factor = scaled(figure, 1.0)
    values = [factor * (figure.value(row) or 0.0) for row in found]
    y = value_axis(axis_label(figure), values, log=is_log(figure, values))
    told = [f for f in figures if f.headline or f.column == figure.column]
    methods = list(dict.fromkeys(str(row["method"]) for row in found))
    targets = list(dict.fromkeys(target_text(row.get("target")) for row in found))

    def panel(target: str) -> Panel:
        mine = [row for row in found if target_text(row.get("target")) == target]
        places = {row_key(row): _place(row, selections, methods) for row in mine}
        marks = [_mark(row, places[row_key(row)], figure, factor, rows, told) for row in mine]
        return Panel(
            title=target if len(targets) > 1 else "",
            x=_names(selections),
            y=y,
            marks=marks,
            lines=_lines(mine, marks),
        )

    return Chart(
        stem=f"{file_word(figure)}-by-selection",
        title=short_name(model),
        note=f"{figure.label}. {NOTE}",
        section=SECTION,
        panels=[panel(target) for target in targets],
        dense=None,
        dense_text="",
        asides={},
        columns=2,
        share_y=True,
    )


def row_key(row: Row) -> tuple[str, str, str]:
    """What tells a row from the others of its target."""
    return str(row["method"]), str(row["selection"]), str(row.get("seed"))


def _place(row: Row, selections: Sequence[str], methods: Sequence[str]) -> float:
    width = 0.6 / max(len(methods), 3)
    beside = methods.index(str(row["method"])) - (len(methods) - 1) / 2
    return selections.index(str(row["selection"])) + width * beside


def _names(selections: Sequence[str]) -> Axis:
    ticks = [(float(place), name) for place, name in enumerate(selections)]
    return Axis(label="windows", low=-0.5, high=len(selections) - 0.5, ticks=ticks)


def _mark(
    row: Row,
    x: float,
    figure: Figure,
    factor: float,
    rows: Sequence[Row],
    told: Sequence[Figure],
) -> Mark:
    value = factor * (figure.value(row) or 0.0)
    known = math.isfinite(value)
    return Mark(
        method=str(row["method"]),
        x=x,
        y=value if known else None,
        diverged=not known,
        text=mark_text([row], rows, told),
    )


def _lines(rows: Sequence[Row], marks: Sequence[Mark]) -> list[Line]:
    """One a method and seed, through the selections that it has figures of."""
    paired: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row, mark in zip(rows, marks, strict=True):
        if mark.y is not None:
            paired.setdefault((mark.method, str(row.get("seed"))), []).append((mark.x, mark.y))
    return [Line(method, sorted(points)) for (method, _), points in paired.items() if points[1:]]
