"""Quality against a cost: the front in colour and joined, what it dominates in grey."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from tasks.reporting.costs import Cost
from tasks.reporting.labels import place_labels
from tasks.reporting.pareto import pareto_front
from tasks.reporting.plot_parts import (
    Look,
    draw_dense,
    draw_point,
    log_label,
    method_names,
    place_legend,
    quality_axis,
    title,
)
from tasks.reporting.quality import LOG_SPREAD, Quality
from tasks.reporting.style import (
    DENSE_COLOUR,
    DENSE_LINE,
    FAINT,
    HEIGHT,
    WIDTH,
    fix_ticks,
    log_ticks,
    method_styles,
    plain_number,
)

from tasks.reporting.rows import DENSE, Row, is_dense
from tasks.reporting.views import Point, figure_mean, of_model

_LEAST = 1e-3
"""A cost below this stands here on a logarithmic axis."""


@dataclass(frozen=True)
class _Cell:
    cost: float
    point: Point
    on_front: bool

    @property
    def quality(self) -> float:
        return math.inf if self.point.mean is None else self.point.mean


def draw_pareto(rows: Sequence[Row], model: str, quality: Quality, cost: Cost) -> Figure | None:
    """None when no completed cell has both, or all cost the same.

    A cell with a seed that diverged is dominated by any that has none.
    """
    cells = _cells(rows, model, quality, cost)
    costs = [cell.cost for cell in cells]
    if not any(cell.point.method != DENSE for cell in cells) or not (
        cost.differs(costs) or cost.stem == "time-vs-quality"
    ):
        return None
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.subplots()
    edge = quality_axis([axes], quality, [cell.point for cell in cells])
    _cost_axis(axes, costs, cost.label)
    names = [name for name in method_names([cell.point for cell in cells]) if name != DENSE]
    for cell in sorted(cells, key=lambda cell: cell.on_front):
        _draw_cell(axes, cell, names, edge)
    fronts = _fronts(cells, cost)
    for front in fronts:
        places = [(_shown(cell), cell.quality) for cell in front]
        axes.plot(*zip(*places, strict=True), color=DENSE_COLOUR, lw=0.8, zorder=2.2)
    if not any(cell.point.method == DENSE for cell in cells):
        draw_dense(axes, quality.dense)
    vertical = "lower" if quality.lower_is_better else "upper"
    side = "left" if cost.lower_is_better else "right"
    title(axes, model, f"{vertical} {side} is better")
    _legend(figure, cells, names, quality, cost)
    markers = [(_shown(cell), cell.quality) for cell in cells]
    place_labels(axes, _labels(fronts, cost), markers, leftwards=cost.per_target)
    return figure


def _cells(rows: Sequence[Row], model: str, quality: Quality, cost: Cost) -> list[_Cell]:
    mine = of_model(rows, model)
    found = [
        (mean, point)
        for point in quality.points(mine, model)
        if (mean := figure_mean(mine, point, cost.value)) is not None
    ]
    dense = next((row for row in mine if is_dense(row)), None)
    if cost.dense_competes and dense is not None and quality.dense is not None:
        at = cost.value(dense)
        if at is not None:
            values = (quality.dense,)
            point = Point(method=DENSE, target="", sparsity=0.0, seconds=None, values=values)
            found.append((at, point))
    worst = math.inf if quality.lower_is_better else -math.inf
    coordinates = [
        (at, worst if point.diverged or point.mean is None else point.mean) for at, point in found
    ]
    better = (cost.lower_is_better, quality.lower_is_better)
    on_front = [False] * len(found)
    groups = {point.target if cost.per_target else "" for _, point in found}
    for group in groups:
        places = [k for k, (_, p) in enumerate(found) if not cost.per_target or p.target == group]
        flags = pareto_front([coordinates[k] for k in places], lower_is_better=better)
        for place, flag in zip(places, flags, strict=True):
            on_front[place] = flag and math.isfinite(coordinates[place][1])
    return [_Cell(at, point, flag) for (at, point), flag in zip(found, on_front, strict=True)]


def _fronts(cells: Sequence[_Cell], cost: Cost) -> list[list[_Cell]]:
    groups: dict[str, list[_Cell]] = {}
    for cell in cells:
        if cell.on_front:
            groups.setdefault(cell.point.target if cost.per_target else "", []).append(cell)
    return [sorted(front, key=lambda cell: cell.cost) for front in groups.values()]


def _labels(fronts: Sequence[Sequence[_Cell]], cost: Cost) -> list[tuple[tuple[float, float], str]]:
    """(place, text): a target at the cheap end of its front, or at each cell of the one front."""
    if cost.per_target:
        return [((_shown(front[0]), front[0].quality), front[0].point.target) for front in fronts]
    return [
        ((_shown(cell), cell.quality), cell.point.target)
        for front in fronts
        for cell in front
        if cell.point.target
    ]


def _draw_cell(axes: Axes, cell: _Cell, names: Sequence[str], edge: float) -> None:
    if cell.point.method == DENSE:
        look = Look(DENSE_COLOUR, "*", 8.0)
    else:
        colour, marker, _ = method_styles(names)[cell.point.method]
        look = Look(colour if cell.on_front else FAINT, marker, 5.5 if cell.on_front else 4.5)
    draw_point(axes, _shown(cell), cell.point, look, edge)


def _shown(cell: _Cell) -> float:
    return max(cell.cost, _LEAST)


def _cost_axis(axes: Axes, costs: Sequence[float], label: str) -> None:
    low, high = max(min(costs), _LEAST), max(*costs, _LEAST)
    if high / low <= LOG_SPREAD:
        spread = high - low
        bottom = 0.0 if low < 0.5 * high or not spread else low - 0.12 * spread
        axes.set_xlim(bottom, high + 0.12 * (high - bottom))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
        axes.set_xlabel(label)
        return
    room = (high / low) ** 0.06
    left, right = low / room**2.2, high * room**1.5
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    ticks = log_ticks(left, right, most=6, gap=0.17)
    fix_ticks(axes.xaxis, ticks, [plain_number(tick) for tick in ticks])
    axes.set_xlabel(log_label(label))


def _legend(
    figure: Figure, cells: Sequence[_Cell], names: Sequence[str], quality: Quality, cost: Cost
) -> None:
    styles = method_styles(names)
    handles: list[Artist] = []
    learned = {cell.point.method: cell.point.learned for cell in cells}
    for name in names:
        colour, marker, _ = styles[name]
        label = f"{name}: learned\n{learned[name]}" if learned[name] else name
        handles.append(Line2D([], [], color=colour, marker=marker, ls="", label=label))
    front = "front of each target" if cost.per_target else "Pareto front"
    handles.append(Line2D([], [], color=DENSE_COLOUR, lw=0.8, label=front))
    if any(not cell.on_front for cell in cells):
        handles.append(Line2D([], [], color=FAINT, marker="o", ls="", label="dominated"))
    if any(cell.point.method == DENSE for cell in cells):
        handles.append(Line2D([], [], color=DENSE_COLOUR, marker="*", ls="", label="dense"))
    elif quality.dense is not None:
        handles.append(Line2D([], [], color=DENSE_COLOUR, ls=DENSE_LINE, label=quality.dense_text))
    place_legend(figure, handles, 2 if any(learned.values()) else 3, handlelength=1.6)
