"""A figure of quality or speed against sparsity."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tasks.measures.figures import Figure
from tasks.pruning.core.targets import SemiStructured, TargetError, parse_target
from tasks.reporting import views
from tasks.reporting.charts.axis import Axis, is_log, linear_ticks, plain_number, value_axis
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
from tasks.reporting.rows import DENSE, Row
from tasks.reporting.text import one_line, scaled, short_name, shown
from tasks.reporting.views import Point

SECTION = "Against sparsity"


def against_sparsity(
    rows: Sequence[Row], model: str, figure: Figure, figures: Sequence[Figure]
) -> Chart | None:
    """``figure`` against measured sparsity; None when no completed cell has it.

    Fractions are joined per method; the dense model stands where its own zeros are. keep:group
    targets stand in columns of their own beside them: at the sparsity they share with a fraction
    they would be taken for points of its line. A figure of speed is shown as a multiple of the
    dense model's.

    Args:
        figures: those that a mark tells, if they are headline ones.
    """
    relative = figure.role == "speed" and figure.relative
    found = [
        point
        for point in views.points(rows, model, figure, relative=relative)
        if _zeros(point) is not None
    ]
    if not found:
        return None
    dense = 1.0 if relative else views.dense_value(rows, model, figure)
    factor = 1.0 if relative else scaled(figure, 1.0)
    y, line = _vertical(figure, found, dense, factor, relative=relative)
    told = [f for f in figures if f.headline or f.column in ("sparsity", figure.column)]

    def mark(point: Point, x: float) -> Mark:
        return Mark(
            method=point.method,
            x=x,
            y=None if point.mean is None else factor * point.mean,
            bar=factor * (point.standard_error or 0.0),
            diverged=point.diverged,
            text=mark_text(point.rows, rows, told),
        )

    joined = [mark(point, _zeros(point) or 0.0) for point in found if not _is_group(point.target)]
    grouped = [point for point in found if _is_group(point.target)]
    own = views.dense_row(rows, model)
    if joined and own is not None and line is not None:
        x, text = 100 * float(own.get("sparsity") or 0.0), mark_text([own], rows, told)
        joined.insert(0, Mark(method=DENSE, x=x, y=line, text=text))
    methods = list(dict.fromkeys(point.method for point in found))
    columns = views.targets(grouped)
    width = 0.75 / max(len(methods), 3)
    places = {name: width * (k - (len(methods) - 1) / 2) for k, name in enumerate(methods)}
    beside = [mark(p, columns.index(p.target) + places[p.method]) for p in grouped]
    return Chart(
        stem=f"{file_word(figure)}-vs-sparsity",
        title=short_name(model),
        note=_note(rows, figure, found),
        section=SECTION,
        panels=[
            *([_fractions(joined, methods, y)] if joined else []),
            *([_groups(beside, columns, y)] if beside else []),
        ],
        dense=line,
        dense_text="dense (1×)" if relative else _dense_text(figure, dense),
        asides=asides_of(found),
        columns=2,
        share_y=True,
    )


def _vertical(
    figure: Figure, found: Sequence[Point], dense: float | None, factor: float, *, relative: bool
) -> tuple[Axis, float | None]:
    """The axis, and where on it the dense model's line lies; None where it cannot be shown."""
    values = [factor * value for point in found for value in (*point.values, *point.ends)]
    log = is_log(figure, values)
    line = None if dense is None or not math.isfinite(dense) else factor * dense
    if log and line is not None and line <= 0:
        line = None
    reached = [*values, *figure.bounds, *([] if line is None else [line])]
    return value_axis(axis_label(figure, relative=relative), reached, log=log), line


def _fractions(marks: Sequence[Mark], methods: Sequence[str], y: Axis) -> Panel:
    lines: list[Line] = []
    for name in methods:
        mine = sorted((m for m in marks if m.method == name), key=lambda mark: mark.x)
        places = [(m.x, math.nan if m.y is None else m.y) for m in mine]
        if len(mine) < 2:
            continue
        lines.append(Line(name, places))
        if any(mark.y is None for mark in mine):
            reached = [(m.x, y.edge if m.y is None else m.y) for m in mine]
            lines.append(Line(name, reached, dotted=True))
    high = max(mark.x for mark in marks) or 1.0
    ticks = [(tick, plain_number(tick)) for tick in linear_ticks(0.0, high)]
    x = Axis(label="zeros (%)", low=-0.05 * high, high=1.08 * high, ticks=ticks)
    return Panel(x=x, y=y, marks=marks, lines=lines, weight=2.6)


def _groups(marks: Sequence[Mark], columns: Sequence[str], y: Axis) -> Panel:
    ticks = [
        (float(place), f"{target}\n{100 * parse_target(target).sparsity:.3g} %")
        for place, target in enumerate(columns)
    ]
    x = Axis(label="keep:group", low=-0.55, high=len(columns) - 0.45, ticks=ticks)
    return Panel(x=x, y=y, marks=marks, weight=0.4 + 0.55 * len(columns))


def _dense_text(figure: Figure, dense: float | None) -> str:
    unit = f" {figure.unit}" if figure.unit == "%" else ""
    return "dense" if dense is None else f"dense ({shown(figure, dense)}{unit})"


def _note(rows: Sequence[Row], figure: Figure, found: Sequence[Point]) -> str:
    notes = [figure.label]
    notes += ["bars: ± 1 standard error"] if any(point.ends for point in found) else []
    measured = [row for row in rows if figure.value(row) is not None]
    if not all(views.is_comparable(row, rows, figure) for row in measured):
        place = next(point.rows[0].get(figure.comparable) for point in found)
        notes.append(f"only on {one_line(short_name(str(place)), 24)}")
    return "; ".join(notes)


def _zeros(point: Point) -> float | None:
    """Percent: measured, mean over the seeds, or else as the target says."""
    measured = views.mean(
        float(value) if isinstance(value := row.get("sparsity"), int | float) else None
        for row in point.rows
    )
    if measured is not None:
        return 100 * measured
    try:
        return 100 * parse_target(point.target).sparsity
    except TargetError:
        return None


def _is_group(target: str) -> bool:
    try:
        return isinstance(parse_target(target), SemiStructured)
    except TargetError:
        return False
