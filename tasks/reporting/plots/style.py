"""How every plot looks: one colour, marker and line a method, one marker a target, readable axes.

Colours are Okabe and Ito's, which people with any colour vision tell apart ("Color Universal
Design", 2008); markers and line styles tell methods apart in grey. No text is smaller than 8 points
in print, at the width that the plot is drawn at.
"""

from __future__ import annotations

import hashlib
import io
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from tasks.reporting.text import DIVERGED
from tasks.store.files import write_atomically

WIDTH, HEIGHT = 8.5 / 2.54, 2.45
"""Inches of a plot without its legend: one column of a paper, 8.5 cm."""
DENSE_COLOUR = "#000000"
FAINT = "#B0B0B0"

DENSE_LINE: Any = (0, (4.4, 1.4))
"""Dashes longer than any method's; three fit a legend's handle."""


class MethodStyle(NamedTuple):
    """How a method is drawn."""

    colour: str
    marker: str
    line: Any
    """A matplotlib line style."""


_METHODS = {
    "magnitude": MethodStyle("#E69F00", "o", "-"),
    "wanda": MethodStyle("#0072B2", "s", (0, (2.2, 0.9))),
    "sparsegpt": MethodStyle("#009E73", "D", (0, (4, 1, 1, 1))),
    "swiftprune": MethodStyle("#D55E00", "^", "-"),
    "wanda_sp": MethodStyle("#332288", "X", (0, (1, 1))),
    "policy_gradient": MethodStyle("#CC79A7", "v", (0, (6, 1, 1, 1))),
    "ast": MethodStyle("#56B4E9", "P", (0, (4, 1, 1, 1, 1, 1))),
}
_SPARE = (
    MethodStyle("#882255", "p", (0, (2.2, 0.9))),
    MethodStyle("#999933", "h", "-"),
    MethodStyle("#666666", "8", (0, (1, 1))),
    MethodStyle("#117733", "d", (0, (6, 1, 1, 1))),
)
_TARGET_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
_SETTINGS: dict[Any, Any] = {
    "font.size": 8.0,
    "figure.titlesize": 8.0,
    "figure.labelsize": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
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
    "savefig.dpi": 300,
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


def method_styles(names: Iterable[str]) -> dict[str, MethodStyle]:
    """Colour, marker and line of each method.

    A method that this module knows has its own. Another takes a spare one that its name chooses,
    the next one where two names choose the same, so that plots of one sweep always agree.
    """
    styles = dict(_METHODS)
    taken: set[int] = set()
    for name in sorted(set(names) - _METHODS.keys()):
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % len(_SPARE)
        while place in taken and len(taken) < len(_SPARE):
            place = (place + 1) % len(_SPARE)
        taken.add(place)
        styles[name] = _SPARE[place]
    return styles


def target_markers(ordered: Sequence[str]) -> dict[str, str]:
    """A marker for each target, in order; they repeat beyond a dozen."""
    return {
        target: _TARGET_MARKERS[place % len(_TARGET_MARKERS)]
        for place, target in enumerate(ordered)
    }


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG, whole or not at all, without metadata: equal input, equal bytes."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", metadata={"Software": None})
    write_atomically(path, buffer.getvalue())
    return path


def log_axis(axes: Sequence[Axes], values: Sequence[float]) -> float:
    """Make the y axes logarithmic with the same limits and plain ticks.

    Where a value is not finite, the axes get a strip above the finite ones, marked "diverged".

    Returns:
        The y at which a diverged model's marker stands.
    """
    finite = [value for value in values if math.isfinite(value) and value > 0]
    low, high = (min(finite), max(finite)) if finite else (1.0, 10.0)
    room = max(0.06 * math.log10(high / low), 0.03)
    bottom, top = low / 10**room, high * 10**room
    ticks = log_ticks(bottom, top)
    labels = [plain_number(tick) for tick in ticks]
    edge = top * 10 ** (1.2 * room)
    if not all(map(math.isfinite, values)):
        for one in axes:
            one.axhline(top, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)))
        ticks, labels, top = [*ticks, edge], [*labels, DIVERGED], edge * 10**room
    for one in axes:
        one.set_yscale("log")
        one.set_ylim(bottom, top)
        fix_ticks(one.yaxis, ticks, labels)
    return edge


def linear_axis(axes: Sequence[Axes], values: Sequence[float]) -> float:
    """Give the y axes the same linear limits, from zero where the values come near it.

    Returns:
        The y at which a diverged model's marker stands, as :func:`log_axis` does.
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    spread = high - low or abs(high) or 1.0
    bottom, top = low - 0.07 * spread, high + 0.07 * spread
    if 0 <= low < 0.5 * high or low == high > 0:
        bottom = 0.0
    edge = top + 0.08 * spread
    locator = MaxNLocator(nbins=6, steps=[1, 2, 5, 10])
    ticks = [tick for tick in locator.tick_values(bottom, top) if bottom <= tick <= top]
    labels = [f"{tick:.6g}" for tick in ticks]
    if not all(map(math.isfinite, values)):
        for one in axes:
            one.axhline(top, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)))
        ticks, labels, top = [*ticks, edge], [*labels, DIVERGED], edge + 0.07 * spread
    for one in axes:
        one.set_ylim(bottom, top)
        fix_ticks(one.yaxis, ticks, labels)
    return edge


def fix_ticks(axis: Axis, ticks: Sequence[float], labels: Sequence[str]) -> None:
    """Exactly these ticks, no minor ones."""
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FixedFormatter(list(labels)))
    axis.set_minor_locator(NullLocator())


def log_ticks(low: float, high: float, most: int = 8, gap: float = 0.07) -> list[float]:
    """Round numbers within [low, high] for a log axis: as many as fit, ``most`` at the most.

    Args:
        gap: least distance of two ticks, as a part of the axis.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    length = math.log10(high / low)
    for digits in (range(100, 1000, 5), range(100, 1000, 10), range(100, 1000, 20),
                   range(100, 1000, 50), (100, 150, 200, 300, 400, 500, 700),
                   (100, 200, 300, 500), (100, 200, 500), (100, 300), (100,)):  # fmt: skip
        ticks = [d * 10.0 ** (k - 2) for k in decades for d in digits]
        ticks = [tick for tick in ticks if low <= tick <= high]
        gaps = [math.log10(b / a) / length for a, b in pairwise(ticks)]
        if len(ticks) <= most and min(gaps, default=1.0) >= gap:
            return ticks
    whole = [10.0**k for k in decades if low <= 10.0**k <= high]
    return whole[:: math.ceil(len(whole) / most)]


def plain_number(value: float) -> str:
    """30, 1,000, 0.5; powers of ten from a million on."""
    if value < 1e6:
        return f"{value:,.0f}" if value >= 1000 else f"{value:.6g}"
    power = math.floor(math.log10(value) + 1e-9)
    digit = value / 10.0**power
    return f"$10^{{{power}}}$" if abs(digit - 1) < 1e-6 else f"${digit:.3g}×10^{{{power}}}$"
