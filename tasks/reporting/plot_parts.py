"""What the plots of quality share: a cell's marker, the dense model's line, the legend."""

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

from tasks.reporting.style import DENSE_COLOUR, method_styles
from tasks.reporting.text import format_perplexity
from tasks.reporting.views import Point


@dataclass(frozen=True)
class Look:
    """A marker's."""

    colour: str
    marker: str
    size: float = 5.5


def draw_point(axes: Axes, x: float, point: Point, look: Look, edge: float) -> None:
    """A cell at its mean, with bars from the least to the most of its seeds.

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
        if len(set(point.finite)) > 1:
            bars = [[point.mean - min(point.finite)], [max(point.finite) - point.mean]]
            axes.errorbar(
                [x], [point.mean], yerr=bars, color=look.colour, elinewidth=1.0, zorder=2.5
            )
        axes.plot([x], [point.mean], **how)
    if point.diverged:
        axes.plot([x], [edge], **how)


def draw_dense(axes: Axes, dense: float | None) -> None:
    """The dense model's perplexity, across."""
    if dense is not None and math.isfinite(dense):
        axes.axhline(dense, color=DENSE_COLOUR, linestyle="--", linewidth=1.1, zorder=2)


def method_legend(
    figure: Figure, found: Sequence[Point], dense: float | None, *, markers: bool
) -> None:
    """Below the axes: each method's colour, with ``markers`` also its own, and the dense line.

    A method that learned says what and from how many tokens: its figures are not comparable with
    one-shot ones as if they had cost the same.
    """
    names = method_names(found)
    styles = method_styles(names)
    handles: list[Artist] = []
    for name in names:
        colour, marker = styles[name]
        learned = next((p.learned for p in found if p.method == name and p.learned), "")
        label = f"{name}: learned\n{learned}" if learned else name
        if markers:
            handles.append(Line2D([], [], color=colour, marker=marker, label=label))
        else:
            handles.append(Patch(color=colour, label=label))
    if dense is not None:
        label = f"dense ({format_perplexity(dense)})"
        handles.append(Line2D([], [], color=DENSE_COLOUR, linestyle="--", label=label))
    # As many rows as three columns need (two, where labels are long), then no more columns than
    # fill them; fewer where they would leave the figure.
    most = 2 if any(point.learned for point in found) else 3
    for columns in range(math.ceil(len(handles) / math.ceil(len(handles) / most)), 0, -1):
        legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        figure.draw_without_rendering()
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def all_perplexities(found: Sequence[Point], dense: float | None) -> list[float]:
    """Every value that the y axis has to show."""
    return [*(v for p in found for v in p.perplexities), *([] if dense is None else [dense])]


def method_names(found: Sequence[Point]) -> list[str]:
    """Methods in order of appearance."""
    return list(dict.fromkeys(point.method for point in found))
