"""A figure against the one that it estimates: a mark a cell, each method's joined by target."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.measures.figures import Figure
from tasks.reporting import views
from tasks.reporting.charts.axis import is_log, value_axis
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
from tasks.reporting.ordering import target_key
from tasks.reporting.rows import Row
from tasks.reporting.text import scaled, short_name

SECTION = "Estimates against what they estimate"
NOTE = "A mark a cell, joined from the least sparse one on; what estimates well never turns back."


def against_estimate(
    rows: Sequence[Row], model: str, estimate: Figure, truth: Figure, figures: Sequence[Figure]
) -> Chart | None:
    """None where fewer than two cells have both.

    Args:
        figures: of which a mark tells those of the estimate's group.
    """
    told = [figure for figure in figures if figure.headline or figure.group == estimate.group]
    found = [
        (scaled(estimate, at), scaled(truth, point.mean), point)
        for point in sorted(views.points(rows, model, truth), key=lambda p: target_key(p.target))
        if point.mean is not None
        and (at := views.mean(estimate.value(row) for row in point.rows)) is not None
    ]
    if len(found) < 2:
        return None
    marks = [
        Mark(method=point.method, x=x, y=y, text=mark_text(point.rows, rows, told))
        for x, y, point in found
    ]
    methods = dict.fromkeys(mark.method for mark in marks)
    lines = [Line(m, [(k.x, k.y) for k in marks if k.method == m and k.y is not None])
             for m in methods]  # fmt: skip
    xs, ys = [x for x, _, _ in found], [y for _, y, _ in found]
    panel = Panel(
        x=value_axis(axis_label(estimate), xs, log=is_log(estimate, xs)),
        y=value_axis(axis_label(truth), ys, log=is_log(truth, ys)),
        marks=marks,
        lines=[line for line in lines if len(line.points) > 1],
    )
    return Chart(
        stem=f"{file_word(truth)}-against-{file_word(estimate)}",
        title=short_name(model),
        note=f"{truth.label} against {estimate.label}",
        section=SECTION,
        panels=[panel],
        dense=None,
        dense_text="",
        asides=asides_of([point for _, _, point in found]),
        columns=1,
        share_y=False,
    )
