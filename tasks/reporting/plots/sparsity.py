"""Any measure of quality or speed against sparsity."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tasks.reporting.plot_parts import (
    Look,
    draw_dense,
    draw_point,
    method_legend,
    method_names,
    quality_axis,
    title,
)
from tasks.reporting.quality import Quality
from tasks.reporting.style import HEIGHT, WIDTH, fix_ticks, method_styles

from tasks.pruning.core.targets import SemiStructured, TargetError, parse_target
from tasks.reporting.rows import Row
from tasks.reporting.views import Point, targets


def draw_sparsity(rows: Sequence[Row], model: str, quality: Quality) -> Figure | None:
    """``quality`` against measured sparsity; None when no completed cell has it.

    Fractions are joined per method. keep:group targets stand in columns of their own beside them:
    at the sparsity they share with a fraction they would be taken for points of its line.
    """
    found = [point for point in quality.points(rows, model) if _zeros(point) is not None]
    if not found:
        return None
    joined = [point for point in found if not _is_group(point.target)]
    grouped = [point for point in found if _is_group(point.target)]
    columns = targets(grouped)
    width = WIDTH + 0.4 * max(len(columns) - 2, 0)
    figure = Figure(figsize=(width, HEIGHT), layout="constrained")
    ratios = [*([2.6] if joined else []), *([0.4 + 0.55 * len(columns)] if columns else [])]
    axes = figure.subplots(1, len(ratios), sharey=True, squeeze=False, width_ratios=ratios)[0]
    edge = quality_axis(list(axes), quality, found)
    names = method_names(found)
    if joined:
        _draw_fractions(axes[0], joined, names, edge)
    if columns:
        _draw_groups(axes[-1], grouped, names, columns, edge)
    for place, one in enumerate(axes):
        draw_dense(one, quality.dense)
        one.tick_params(left=place == 0)
    title(axes[0], model, quality.note)
    method_legend(figure, found, quality, markers=True)
    return figure


def _draw_fractions(axes: Axes, found: list[Point], names: list[str], edge: float) -> None:
    styles = method_styles(names)
    for rank, name in enumerate(names):
        mine = sorted(
            ((_zeros(point) or 0.0, point) for point in found if point.method == name),
            key=lambda pair: pair[0],
        )
        colour, marker, line = styles[name]
        places = [x for x, _ in mine]
        # Earlier lines and markers are larger, so that coinciding ones show at each other's rim.
        width = max(1.8 - 0.2 * rank, 1.0)
        means = [math.nan if point.mean is None else point.mean for _, point in mine]
        axes.plot(places, means, color=colour, linewidth=width, linestyle=line)
        if any(map(math.isnan, means)):
            reached = [edge if math.isnan(mean) else mean for mean in means]
            axes.plot(places, reached, color=colour, linewidth=1.0, linestyle=":")
        look = Look(colour, marker, max(6.5 - 0.4 * rank, 4.5))
        for x, point in mine:
            draw_point(axes, x, point, look, edge)
    everywhere = [_zeros(point) or 0.0 for point in found]
    room = max(0.08 * (max(everywhere) - min(everywhere)), 2.0)
    axes.set_xlim(min(everywhere) - room, max(everywhere) + room)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.set_xlabel("sparsity (% zeros)")


def _draw_groups(
    axes: Axes, found: list[Point], names: list[str], columns: list[str], edge: float
) -> None:
    styles = method_styles(names)
    spread = [0.75 * (k - (len(names) - 1) / 2) / max(len(names), 3) for k in range(len(names))]
    for point in found:
        x = columns.index(point.target) + spread[names.index(point.method)]
        draw_point(axes, x, point, Look(*styles[point.method][:2]), edge)
    axes.set_xlim(-0.55, len(columns) - 0.45)
    fix_ticks(axes.xaxis, range(len(columns)), [_group_label(text) for text in columns])
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("keep:group")


def _zeros(point: Point) -> float | None:
    """Percent: measured, or else as the target says; None where it says nothing."""
    if point.sparsity is not None:
        return 100 * point.sparsity
    try:
        return 100 * parse_target(point.target).sparsity
    except TargetError:
        return None


def _is_group(target: str) -> bool:
    try:
        return isinstance(parse_target(target), SemiStructured)
    except TargetError:
        return False


def _group_label(target: str) -> str:
    return f"{target}\n{100 * parse_target(target).sparsity:.3g} %"
