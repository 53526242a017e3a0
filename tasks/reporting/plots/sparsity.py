"""Any figure of quality or speed against sparsity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator

from tasks.measures.figures import Figure
from tasks.pruning.core.targets import SemiStructured, TargetError, parse_target
from tasks.reporting.plots.parts import (
    Look,
    dense_handle,
    draw_dense,
    draw_point,
    folded,
    label_of,
    method_handles,
    method_names,
    place_legend,
    scaled,
    title,
    value_axis,
)
from tasks.reporting.plots.style import HEIGHT, WIDTH, fix_ticks, method_styles
from tasks.reporting.rows import Row
from tasks.reporting.text import on_axis, shown
from tasks.reporting.views import (
    Point,
    dense_value,
    of_model,
    points,
    ratio_to_dense,
    targets,
)


def draw_sparsity(rows: Sequence[Row], model: str, figure: Figure) -> Drawing | None:
    """A figure against measured sparsity; None when no completed cell has it.

    Speed is drawn as a multiple of the dense model's. Fractions are joined per method. keep:group
    targets stand in columns of their own beside them: at the sparsity they share with a fraction
    they would be taken for points of its line.
    """
    mine = of_model(rows, model)
    value, dense, dense_text, label = _told(mine, model, figure)
    found = [scaled(figure, p) if value is None else p for p in points(mine, model, figure, value)]
    found = [point for point in found if _zeros(point) is not None]
    if not found:
        return None
    joined = [point for point in found if not _is_group(point.target)]
    grouped = [point for point in found if _is_group(point.target)]
    columns = targets(grouped)
    width = WIDTH + 0.4 * max(len(columns) - 2, 0)
    drawing = Drawing(figsize=(width, HEIGHT), layout="constrained")
    ratios = [*([2.6] if joined else []), *([0.4 + 0.55 * len(columns)] if columns else [])]
    axes = drawing.subplots(1, len(ratios), sharey=True, squeeze=False, width_ratios=ratios)[0]
    edge = value_axis(list(axes), figure, found, dense, label)
    names = method_names(found)
    if joined:
        _draw_fractions(axes[0], joined, names, edge)
    if columns:
        _draw_groups(axes[-1], grouped, names, columns, edge)
    low, high = axes[0].get_ylim()
    lined = dense is not None and low <= dense <= high
    for place, one in enumerate(axes):
        draw_dense(one, dense if lined else None)
        one.tick_params(left=place == 0)
    title(axes[0], model, "bars: ± 1 standard error" if any(p.error for p in found) else "")
    handles = method_handles(found) + ([dense_handle(dense_text)] if lined else [])
    place_legend(drawing, handles, 2 if any(point.learned for point in found) else 3)
    return drawing


def _told(
    rows: Sequence[Row], model: str, figure: Figure
) -> tuple[Callable[[Row], float | None] | None, float | None, str, str]:
    """(what to draw of a row, the dense model's, its words, the axis's label)."""
    if figure.role == "speed":
        label = folded(f"{figure.label} (× dense)")
        return lambda row: ratio_to_dense(row, rows, figure), 1.0, "dense (1×)", label
    dense = dense_value(rows, model, figure)
    if dense is None:
        return None, None, "dense", label_of(figure)
    told = shown(figure, {figure.column: dense})
    sign = " %" if figure.format == "percent" else ""
    return None, on_axis(figure, dense), f"dense ({told}{sign})", label_of(figure)


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
