"""What the plots of quality share: axis, a cell's marker, the dense model's line, legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from tasks.reporting.quality import Quality
from tasks.reporting.style import (
    DENSE_COLOUR,
    DENSE_LINE,
    linear_axis,
    method_styles,
    perplexity_axis,
)

from tasks.reporting.views import Point, short_name


@dataclass(frozen=True)
class Look:
    """A marker's."""

    colour: str
    marker: str
    size: float = 5.5


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
        "zorder": 3,
    }
    if point.mean is not None:
        below, above = point.bars
        if below or above:
            bars = [[below], [above]]
            axes.errorbar(
                [x], [point.mean], yerr=bars, color=look.colour, elinewidth=1.0, zorder=2.5
            )
        axes.plot([x], [point.mean], **how)
    if point.diverged:
        axes.plot([x], [edge], **how)


def draw_dense(axes: Axes, dense: float | None) -> None:
    """The dense model's value, across."""
    if dense is not None and math.isfinite(dense):
        axes.axhline(dense, color=DENSE_COLOUR, linestyle=DENSE_LINE, linewidth=1.1, zorder=2)


def quality_axis(axes: Sequence[Axes], quality: Quality, found: Sequence[Point]) -> float:
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
    values += [*quality.always_shown, *([] if quality.dense is None else [quality.dense])]
    log = quality.is_log(values)
    edge = (perplexity_axis if log else linear_axis)(axes, values)
    axes[0].set_ylabel(log_label(quality.label) if log else quality.label)
    return edge


def log_label(label: str) -> str:
    """A label that says that its axis is logarithmic, within the unit's brackets if it has any."""
    return f"{label[:-1]}, log)" if label.endswith(")") else f"{label} (log)"


def title(axes: Axes, model: str, note: str = "") -> None:
    """The model's name, and a note on a line of its own."""
    axes.set_title(short_name(model) + (f"\n{note}" if note else ""), loc="left")


def method_legend(
    figure: Figure, found: Sequence[Point], quality: Quality, *, markers: bool
) -> None:
    """Below the axes: each method's colour, with ``markers`` also its own, and the dense line.

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
        if markers:
            handles.append(Line2D([], [], color=colour, marker=marker, ls=line, label=label))
        else:
            handles.append(Patch(color=colour, label=label))
    if quality.dense is not None:
        label = quality.dense_text
        handles.append(Line2D([], [], color=DENSE_COLOUR, linestyle=DENSE_LINE, label=label))
    most = 2 if any(point.learned for point in found) else 3
    place_legend(figure, handles, most)


def place_legend(figure: Figure, handles: list[Artist], most: int = 3, **more: Any) -> None:
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
