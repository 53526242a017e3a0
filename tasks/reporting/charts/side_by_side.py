"""What pruning costs one model and another: a panel a model on one vertical axis.

A figure whose unit differs between models, as perplexity's does with the tokenizer, is shown as a
multiple of each dense model's.
"""

from __future__ import annotations

from collections.abc import Sequence

from tasks.measures.figures import Figure
from tasks.reporting import views
from tasks.reporting.charts.axis import Axis, is_log, value_axis
from tasks.reporting.charts.chart import (
    Chart,
    Mark,
    Panel,
    asides_of,
    axis_label,
    file_word,
    mark_text,
)
from tasks.reporting.rows import Row
from tasks.reporting.text import scaled, short_names
from tasks.reporting.views import Point

SECTION = "Models side by side"
_ABREAST = 3


def by_model(rows: Sequence[Row], figure: Figure, figures: Sequence[Figure]) -> Chart | None:
    """``figure`` of every cell by target, a panel a model; None where fewer than two have it.

    Args:
        figures: those that a mark tells, if they are headline ones.
    """
    relative = figure.relative
    names = short_names(views.models(rows))
    found = {name: views.points(rows, name, figure, relative=relative) for name in names}
    found = {name: points for name, points in found.items() if points}
    if len(found) < 2:
        return None
    everything = [point for points in found.values() for point in points]
    factor = 1.0 if relative else scaled(figure, 1.0)
    values = [factor * value for point in everything for value in (*point.values, *point.ends)]
    reached = [*values, *([1.0] if relative else figure.bounds)]
    label = axis_label(figure, relative=relative)
    y = value_axis(label, reached, log=is_log(figure, values))
    told = [f for f in figures if f.headline or f.column in ("sparsity", figure.column)]
    targets = views.targets(everything)
    methods = list(dict.fromkeys(point.method for point in everything))
    width = 0.75 / max(len(methods), 3)

    def mark(point: Point, mine: Sequence[Row]) -> Mark:
        beside = width * (methods.index(point.method) - (len(methods) - 1) / 2)
        return Mark(
            method=point.method,
            x=targets.index(point.target) + beside,
            y=None if point.mean is None else factor * point.mean,
            bar=factor * (point.standard_error or 0.0),
            diverged=point.diverged,
            text=mark_text(point.rows, mine, told),
        )

    ticks = [(float(place), target) for place, target in enumerate(targets)]
    x = Axis(label="target", low=-0.5, high=len(targets) - 0.5, ticks=ticks)
    panels = [
        Panel(
            title=names[name], x=x, y=y, marks=[mark(p, views.of_model(rows, name)) for p in mine]
        )
        for name, mine in found.items()
    ]
    return Chart(
        stem=f"{file_word(figure)}-by-model",
        title=figure.label,
        note="bars: ± 1 standard error" if any(point.ends for point in everything) else "",
        section=SECTION,
        panels=panels,
        dense=1.0 if relative else None,
        dense_text="dense (1×)",
        asides=asides_of(everything),
        columns=_ABREAST,
        share_y=True,
    )
