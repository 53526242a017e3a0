"""What the plots of figures share: axis, a cell's marker, the dense model's line, legend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from tasks.measures.figures import Figure
from tasks.reporting.plots.style import (
    DENSE_COLOUR,
    DENSE_LINE,
    linear_axis,
    log_axis,
    method_styles,
)
from tasks.reporting.text import axis_label, on_axis
from tasks.reporting.views import Point, short_name

_LOG_SPREAD = 20
"""Values that differ by more than this factor stand on a logarithmic axis."""


@dataclass(frozen=True)
class Look:
    """A marker's."""

    colour: str
    marker: str
    size: float = 5.5
    pale: bool = False


def draw_point(axes: Axes, x: float, point: Point, look: Look, edge: float) -> None:
    """A cell at its mean, with bars of its standard error, or from least to most of its seeds.

    Seeds that diverged are no part of either; a second marker at ``edge`` stands for them.
    """
    how: dict[str, Any] = {
        "color": look.colour,
        "marker": look.marker,
        "markersize": look.size,
        "markeredgecolor": "white",
        "linestyle": "",
        "alpha": 0.35 if look.pale else 1.0,
        "zorder": 2.8 if look.pale else 3,
    }
    if point.mean is not None:
        below, above = point.bars
        if below or above:
            bars: Any = {"yerr": [[below], [above]], "color": look.colour, "elinewidth": 1.0}
            axes.errorbar([x], [point.mean], **bars, alpha=how["alpha"], zorder=2.5)
        axes.plot([x], [point.mean], **how)
    if point.diverged:
        axes.plot([x], [edge], **how)


def draw_dense(axes: Axes, dense: float | None) -> None:
    """The dense model's value, across."""
    if dense is not None and math.isfinite(dense):
        axes.axhline(dense, color=DENSE_COLOUR, linestyle=DENSE_LINE, linewidth=1.1, zorder=2)


def is_log(figure: Figure, values: Iterable[float]) -> bool:
    """Whether the figure, or the spread of its values, demands a logarithmic axis."""
    finite = [value for value in values if math.isfinite(value)]
    if figure.axis != "auto":
        return figure.axis == "log" and bool(finite) and min(finite) > 0
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > _LOG_SPREAD


def value_axis(
    axes: Sequence[Axes], figure: Figure, found: Sequence[Point], dense: float | None, label: str
) -> float:
    """Make the y axes show every point, and label the first.

    Returns:
        The y at which a diverged model's marker stands.
    """
    values = [value for point in found for value in point.values]
    values += [
        point.mean + end
        for point in found
        if point.mean is not None
        for end in (-point.bars[0], point.bars[1])
    ]
    # A dense model that is zero by definition would leave no logarithmic axis.
    shown = [] if dense is None or (dense == 0 and figure.axis != "linear") else [dense]
    values += [*figure.bounds, *shown]
    log = is_log(figure, values)
    edge = (log_axis if log else linear_axis)(axes, values)
    axes[0].set_ylabel(log_label(label) if log and label else label)
    return edge


def log_label(label: str) -> str:
    """A label that says that its axis is logarithmic, within the unit's brackets if it has any."""
    return f"{label[:-1]}, log)" if label.endswith(")") else f"{label} (log)"


def scaled(figure: Figure, point: Point) -> Point:
    """The point in the unit of the figure's axis."""
    error = None if point.error is None else on_axis(figure, point.error)
    values = tuple(on_axis(figure, value) for value in point.values)
    return Point(
        method=point.method, target=point.target, sparsity=point.sparsity, values=values,
        error=error, learned=point.learned, rows=point.rows,
    )  # fmt: skip


def folded(label: str, width: int = 34) -> str:
    """A label on two lines where it is longer than a plot is high."""
    if len(label) <= width:
        return label
    cut = label.rfind(" ", 0, width)
    return f"{label[:cut]}\n{label[cut + 1 :]}" if cut > 0 else label


def label_of(figure: Figure) -> str:
    """The figure's name and unit, for an axis."""
    return folded(axis_label(figure))


def title(axes: Axes, model: str, note: str = "") -> None:
    """The model's name, and a note on a line of its own."""
    axes.set_title(short_name(model) + (f"\n{note}" if note else ""), loc="left")


def method_handles(found: Sequence[Point]) -> list[Artist]:
    """Each method's colour, marker and line.

    A method that learned says what and from how many tokens: its figures are not comparable with
    one-shot ones as if they had cost the same.
    """
    names = method_names(found)
    styles = method_styles(names)
    handles: list[Artist] = []
    for name in names:
        colour, marker, line = styles[name]
        learned = next((p.learned for p in found if p.method == name and p.learned), "")
        label = f"{name}: learned\n{learned}" if learned else name
        handles.append(Line2D([], [], color=colour, marker=marker, ls=line, label=label))
    return handles


def dense_handle(text: str) -> Artist:
    """The legend's entry of the dense model's line."""
    return Line2D([], [], color=DENSE_COLOUR, linestyle=DENSE_LINE, label=text)


def place_legend(figure: Drawing, handles: list[Artist], most: int = 3, **more: Any) -> None:
    """Below the axes, in as many columns as fit the figure's width, ``most`` at the most.

    The figure grows by the legend's height, so that the axes keep theirs.
    """
    height = figure.get_figheight()
    # Room for any legend while it is measured, or the layout has none left for the axes.
    figure.set_figheight(height + 10)
    # As many rows as ``most`` columns need, then no more columns than fill them.
    for columns in range(math.ceil(len(handles) / math.ceil(len(handles) / most)), 0, -1):
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, **more)
        figure.draw_without_rendering()
        box = legend.get_window_extent()
        if columns == 1 or box.width <= figure.bbox.width:
            figure.set_figheight(height + box.height / figure.dpi)
            return
        legend.remove()


def method_names(found: Sequence[Point]) -> list[str]:
    """Methods in order of appearance."""
    return list(dict.fromkeys(point.method for point in found))
