"""Perplexity against the time that pruning took."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tasks.reporting.plot_parts import (
    Look,
    all_perplexities,
    draw_dense,
    draw_point,
    method_legend,
    method_names,
)
from tasks.reporting.rows import Row
from tasks.reporting.style import (
    HEIGHT,
    WIDTH,
    fix_ticks,
    log_ticks,
    method_styles,
    perplexity_axis,
    plain_number,
    target_markers,
)
from tasks.reporting.views import dense_perplexity, points, short_name, targets

_LOG_SPREAD = 20
"""Times that differ by more than this factor stand on a logarithmic axis."""
_SHORTEST = 1e-3
"""Seconds; what took less stands here on a logarithmic axis."""


def draw_time(rows: Sequence[Row], model: str, corpus: str) -> Figure | None:
    """Perplexity against calibration and pruning time; None when no completed cell was timed.

    The colour is the method's, the marker's shape the target's.
    """
    timed = [(p.seconds, p) for p in points(rows, model, corpus) if p.seconds is not None]
    if not timed:
        return None
    found = [point for _, point in timed]
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    dense = dense_perplexity(rows, model, corpus)
    edge = perplexity_axis([axes], all_perplexities(found, dense))
    names, marks = method_names(found), target_markers(targets(found))
    styles = method_styles(names)
    _time_axis(axes, [seconds for seconds, _ in timed])
    for seconds, point in timed:
        look = Look(styles[point.method][0], marks[point.target])
        draw_point(axes, max(seconds, _SHORTEST), point, look, edge)
    draw_dense(axes, dense)
    axes.set_ylabel(f"perplexity on {short_name(corpus, 24)} (log)")
    axes.set_title(f"{short_name(model, 24)}: lower left is better", loc="left")
    method_legend(figure, found, dense, markers=False)
    shapes = [
        Line2D([], [], linestyle="", marker=mark, color="#555555", label=target)
        for target, mark in marks.items()
    ]
    figure.legend(handles=shapes, title="target", title_fontsize=8.0, loc="outside right center")
    return figure


def _time_axis(axes: Axes, seconds: list[float]) -> None:
    low, high = max(min(seconds), _SHORTEST), max(*seconds, _SHORTEST)
    label = "calibration and pruning time (s"
    if high / low <= _LOG_SPREAD:
        axes.set_xlim(0, 1.08 * high)
        axes.set_xlabel(f"{label})")
        return
    room = (high / low) ** 0.06
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    ticks = log_ticks(low / room, high * room, most=6, gap=0.17)
    fix_ticks(axes.xaxis, ticks, [plain_number(tick) for tick in ticks])
    axes.set_xlabel(f"{label}, log)")
