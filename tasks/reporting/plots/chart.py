"""A chart as matplotlib draws it."""

from __future__ import annotations

import math
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from tasks.reporting.charts.chart import Chart, Mark, Panel
from tasks.reporting.charts.style import (
    DENSE_COLOUR,
    DENSE_DASHES,
    MethodStyle,
    method_styles,
)
from tasks.reporting.plots.paper import (
    HEIGHT,
    WIDTH,
    line_style,
    place_legend,
    set_x,
    set_y,
    tilt_crowded,
)
from tasks.reporting.rows import DENSE

_DENSE_LINE: Any = (0, DENSE_DASHES)
_PANEL_WIDTH = 2.3
"""Inches of one of several panels with axes of their own."""
_CHARACTERS = 15
"""Of a heading, an inch."""
_GROUP_WIDTH = 0.4
"""Inches that each further category adds beyond two."""


def draw_chart(chart: Chart) -> Figure:
    """The chart as a figure, its legend below."""
    figure, grid = _grid(chart)
    styles = method_styles(chart.methods)
    for place, (axes, panel) in enumerate(zip(grid, chart.panels, strict=False)):
        set_x(axes, panel.x)
        set_y(axes, panel.y)
        _draw_panel(axes, panel, chart, styles)
        if chart.share_y:
            first = place % chart.columns == 0
            axes.tick_params(left=first, labelleft=first)
        elif place + chart.columns < len(chart.panels):
            axes.set_xlabel("")
        if place % chart.columns == 0:
            axes.set_ylabel(panel.y.label)
    width = round(_CHARACTERS * figure.get_figwidth())
    heading = [fill(line, width) for line in (chart.title, *chart.note.splitlines())]
    figure.suptitle("\n".join(heading), x=0.01, ha="left")
    if chart.share_y:
        tilt_crowded(figure)
    handles = _handles(chart, styles)
    most = (2 if chart.asides else 3) * max(1, round(figure.get_figwidth() / WIDTH))
    place_legend(
        figure, handles, most, handler_map={tuple: HandlerTuple(ndivide=None)},
        handlelength=2.2 if chart.share_y else 1.6,
    )  # fmt: skip
    return figure


def _grid(chart: Chart) -> tuple[Figure, list[Axes]]:
    columns = min(chart.columns, len(chart.panels))
    rows = math.ceil(len(chart.panels) / columns)
    if chart.share_y:
        categories = len(chart.panels[-1].x.ticks) if chart.panels[-1].weight < 2.6 else 0
        width = WIDTH + _GROUP_WIDTH * max(categories - 2, 0)
        ratios = [panel.weight for panel in chart.panels[:columns]]
    else:
        width, ratios = max(WIDTH, _PANEL_WIDTH * columns), [1.0] * columns
    figure = Figure(figsize=(width, 0.3 + (HEIGHT - 0.3) * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, width_ratios=ratios).flat)
    for axes in grid[len(chart.panels) :]:
        axes.set_visible(False)
    return figure, grid


def _draw_panel(axes: Axes, panel: Panel, chart: Chart, styles: dict[str, MethodStyle]) -> None:
    if panel.title:
        axes.set_title(panel.title, fontweight="bold")
    if chart.dense is not None:
        axes.axhline(chart.dense, color=DENSE_COLOUR, ls=_DENSE_LINE, lw=1.1, zorder=2)
    for line in panel.lines:
        rank = chart.methods.index(line.method) if line.method else 0
        # Earlier lines and marks are larger, so that coinciding ones show at each other's rim.
        look: dict[str, Any] = {"color": DENSE_COLOUR, "lw": 0.8}
        if line.method:
            style = styles[line.method]
            look = {"color": style.colour, "lw": max(1.8 - 0.2 * rank, 1.0),
                    "ls": line_style(style)}  # fmt: skip
        if line.dotted:
            look |= {"ls": ":", "lw": 1.0}
        axes.plot(*zip(*line.points, strict=True), **look)
    if isinstance(panel.x.ticks[0][1], str) and "\n" in panel.x.ticks[0][1]:
        axes.grid(visible=False, axis="x")
    for mark in sorted(panel.marks, key=lambda mark: not mark.pale):
        rank = chart.methods.index(mark.method) if mark.method != DENSE else 0
        size = max(6.5 - 0.4 * rank, 4.5) if chart.share_y else 5.5
        _draw_mark(axes, mark, _look(mark, styles) | {"markersize": size}, panel.y.edge)


def _look(mark: Mark, styles: dict[str, MethodStyle]) -> dict[str, Any]:
    if mark.method == DENSE:
        return {"color": DENSE_COLOUR, "marker": "*", "markeredgecolor": "white"}
    style = styles[mark.method]
    if mark.pale:
        return {"color": style.pale, "marker": style.marker, "markeredgecolor": style.colour}
    return {"color": style.colour, "marker": style.marker, "markeredgecolor": "white"}


def _draw_mark(axes: Axes, mark: Mark, look: dict[str, Any], edge: float) -> None:
    """At its mean, with bars; seeds that diverged are no part of either and stand at the edge."""
    size = 8.0 if mark.method == DENSE else look["markersize"]
    look = look | {"markersize": size, "linestyle": "", "zorder": 3}
    if mark.y is not None:
        if mark.bar:
            drawn = {"color": look["color"], "elinewidth": 1.0, "capsize": 2.0, "zorder": 2.5}
            axes.errorbar([mark.x], [mark.y], yerr=mark.bar, **drawn)
        axes.plot([mark.x], [mark.y], **look)
    if mark.diverged:
        axes.plot([mark.x], [edge], **look)


def _handles(chart: Chart, styles: dict[str, MethodStyle]) -> list[Any]:
    """One entry a method, with the looks that it has in the chart; with what a reader must
    know beside its name: what it learned, and whether it departs from its paper."""
    marks = [mark for panel in chart.panels for mark in panel.marks]
    joined = {line.method for panel in chart.panels for line in panel.lines}
    handles: list[Any] = []
    for name in chart.methods:
        looks = {mark.pale: _look(mark, styles) for mark in marks if mark.method == name}
        line = line_style(styles[name]) if name in joined else ""
        label = "\n".join([name, *chart.asides.get(name, ())])
        made = [Line2D([], [], ls=line, label=label, **looks[pale]) for pale in sorted(looks)]
        handles.append(made[0] if len(made) == 1 else _together(made, label))
    if chart.front:
        handles.append(Line2D([], [], color=DENSE_COLOUR, lw=0.8, label=chart.front))
    if chart.dense is not None:
        look = {"color": DENSE_COLOUR, "ls": _DENSE_LINE, "lw": 1.1}
        handles.append(Line2D([], [], label=chart.dense_text, **look))
    if any(mark.method == DENSE for mark in marks) and chart.dense is None:
        look = _look(next(mark for mark in marks if mark.method == DENSE), styles)
        handles.append(Line2D([], [], ls="", markersize=8.0, label=chart.dense_text, **look))
    return handles


def _together(made: list[Line2D], label: str) -> Any:
    """Several marks as one entry of the legend, which asks a handle for its label."""
    from matplotlib.container import Container

    return Container(made, label=label)
