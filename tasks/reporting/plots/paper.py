"""How plots look on paper: sizes, fonts, axes, legend, and files that are equal for equal input.

No text is smaller than 8 points in print, at the width that the plot is drawn at.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis as DrawnAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from tasks.reporting.charts.axis import Axis
from tasks.reporting.charts.style import FAINT, MethodStyle
from tasks.store.files import write_atomically

WIDTH, HEIGHT = 8.5 / 2.54, 2.45
"""Inches of a plot without its legend: one column of a paper, 8.5 cm."""
DPI = 300
_BETWEEN_WORDS = 2.0
"""Between two ticks' words at the least, in pixels of a figure that is not yet saved."""
_TEXTS = ("font.", "figure.title", "figure.label", "axes.title", "axes.label", "xtick.label",
          "ytick.label", "legend.font")  # fmt: skip
_SETTINGS: dict[Any, Any] = {
    **{f"{text}size": 8.0 for text in _TEXTS},
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 5.5,
    "lines.markeredgewidth": 0.5,
    "errorbar.capsize": 2.0,
    "savefig.dpi": DPI,
}
_lock = threading.Lock()


@contextmanager
def plain_style() -> Iterator[None]:
    """This module's settings on matplotlib's defaults, whatever the user's own file says.

    The settings are the process's, so one thread draws at a time; they are put back afterwards.
    """
    with _lock, matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG, whole or not at all, without metadata: equal input, equal bytes."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
    return path


def line_style(style: MethodStyle) -> Any:
    """The method's line as matplotlib takes it."""
    return (0, style.dashes) if style.dashes else "-"


def set_x(axes: Axes, axis: Axis) -> None:
    """Scale, limits, ticks and label of the horizontal axis."""
    axes.set_xscale("log" if axis.log else "linear")
    axes.set_xlim(axis.low, axis.high)
    _fix_ticks(axes.xaxis, axis)
    axes.set_xlabel(axis.label)


def set_y(axes: Axes, axis: Axis) -> None:
    """Likewise of the vertical one, with the strip for diverged cells; without its label."""
    axes.set_yscale("log" if axis.log else "linear")
    axes.set_ylim(axis.low, axis.high)
    _fix_ticks(axes.yaxis, axis)
    if axis.strip is not None:
        axes.axhline(axis.strip, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)))


def _fix_ticks(drawn: DrawnAxis, axis: Axis) -> None:
    drawn.set_major_locator(FixedLocator([place for place, _ in axis.ticks]))
    drawn.set_major_formatter(FixedFormatter([text for _, text in axis.ticks]))
    drawn.set_minor_locator(NullLocator())


def tilt_crowded(figure: Figure) -> None:
    """Tilt the words below an axis where neighbours would touch."""
    figure.draw_without_rendering()
    for axes in figure.axes:
        words = [label for label in axes.get_xticklabels() if label.get_text()]
        boxes = [label.get_window_extent() for label in words]
        if any(left.x1 + _BETWEEN_WORDS > right.x0 for left, right in pairwise(boxes)):
            for label in words:
                label.set(rotation=30, ha="right", rotation_mode="anchor")


def place_legend(figure: Figure, handles: Sequence[Artist], most: int = 3, **more: Any) -> None:
    """Below the axes, in as many columns as fit the figure's width, ``most`` at the most.

    The figure grows by the legend's height, so that the axes keep theirs.
    """
    height = figure.get_figheight()
    # Room for any legend while it is measured, or the layout has none left for the axes.
    figure.set_figheight(height + 10)
    # As many rows as ``most`` columns need, then no more columns than fill them.
    for columns in range(math.ceil(len(handles) / math.ceil(len(handles) / most)), 0, -1):
        legend = figure.legend(
            handles=list(handles), loc="outside lower center", ncols=columns, **more
        )
        figure.draw_without_rendering()
        box = legend.get_window_extent()
        if columns == 1 or box.width <= figure.bbox.width:
            figure.set_figheight(height + box.height / figure.dpi)
            return
        legend.remove()
