"""A figure against what it costs, a panel a target: the front in full colour, the rest paler."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tasks.measures.figures import Figure
from tasks.reporting.plots.front import pareto_front
from tasks.reporting.plots.parts import (
    Look,
    dense_handle,
    draw_dense,
    draw_point,
    is_log,
    label_of,
    log_label,
    method_handles,
    method_names,
    place_legend,
    scaled,
    title,
    value_axis,
)
from tasks.reporting.plots.style import (
    DENSE_COLOUR,
    HEIGHT,
    WIDTH,
    fix_ticks,
    log_ticks,
    method_styles,
    plain_number,
)
from tasks.reporting.rows import Row, is_dense
from tasks.reporting.text import axis_label, on_axis
from tasks.reporting.views import (
    Point,
    dense_value,
    mean_of,
    of_model,
    points,
    pruning_seconds,
    targets,
)

_LEAST = 1e-3
"""A cost below this stands here on a logarithmic axis."""
_LEAST_DIFFERENCE = 0.01
"""Costs that differ by less than this part leave nothing to choose."""
_PANELS_ABREAST = 3


@dataclass(frozen=True)
class _Cell:
    cost: float
    point: Point
    on_front: bool = False


def draw_pareto(rows: Sequence[Row], model: str, figure: Figure, cost: Figure) -> Drawing | None:
    """None when no completed cell has both, or all of a target cost the same in each.

    Cells compete within their target: that a lighter one is quicker and less harmed is no choice.
    A cell with a seed that diverged is dominated by any that has none.
    """
    of_this = of_model(rows, model)
    panels = _panels(of_this, model, figure, cost)
    if not panels:
        return None
    found = [cell.point for cells in panels.values() for cell in cells]
    dense = dense_value(of_this, model, figure)
    dense = None if dense is None else on_axis(figure, dense)
    across = min(len(panels), _PANELS_ABREAST)
    down = math.ceil(len(panels) / across)
    width = WIDTH * (1 if across == 1 else 0.45 + 0.55 * across)
    drawing = Drawing(figsize=(width, HEIGHT * down), layout="constrained")
    grid = drawing.subplots(down, across, sharex=True, squeeze=False)
    axes = list(grid.flat)
    _cost_axis(axes, [cell.cost for cells in panels.values() for cell in cells], cost)
    for place, one in enumerate(axes):
        one.set_visible(place < len(panels))
    for one, (target, cells) in zip(axes, panels.items(), strict=False):
        mine = [cell.point for cell in cells]
        label = label_of(figure) if one in grid[:, 0] else ""
        _draw_panel(one, cells, value_axis([one], figure, mine, dense, label))
        draw_dense(one, dense)
        one.set_title(target, loc="left")
    vertical = "lower" if figure.better == "lower" else "upper"
    side = "right" if cost.better == "higher" else "left"
    title(axes[0], model, f"{next(iter(panels))} · {vertical} {side} is better")
    _legend(drawing, found, panels, dense)
    return drawing


def _panels(
    rows: Sequence[Row], model: str, figure: Figure, cost: Figure
) -> dict[str, list[_Cell]]:
    """Target → its cells, of the targets in which at least two cells leave a choice of costs."""
    at = _cost_of(cost, rows)
    cells = [
        _Cell(on_axis(cost, mean), scaled(figure, point))
        for point in points(rows, model, figure)
        if (mean := mean_of(at(row) for row in point.rows)) is not None
    ]
    panels: dict[str, list[_Cell]] = {}
    differs = False
    for target in targets(cell.point for cell in cells):
        group = [cell for cell in cells if cell.point.target == target]
        spent = [cell.cost for cell in group]
        differs |= max(spent) - min(spent) > _LEAST_DIFFERENCE * max(spent)
        panels[target] = _judged(group, figure, cost)
    return panels if differs else {}


def _cost_of(cost: Figure, rows: Sequence[Row]) -> Callable[[Row], float | None]:
    """What a row cost: with pruning goes its calibration; speed counts where the dense ran only."""
    if cost.column == "prune_seconds":
        return pruning_seconds
    places = {row.get(cost.comparable) for row in rows if is_dense(row)}

    def of(row: Row) -> float | None:
        same = not cost.comparable or not places or row.get(cost.comparable) in places
        return cost.value(row) if same else None

    return of


def _judged(cells: Sequence[_Cell], figure: Figure, cost: Figure) -> list[_Cell]:
    lower = figure.better != "higher"
    worst = math.inf if lower else -math.inf
    coordinates = [
        (cell.cost, worst if p.diverged or p.mean is None else p.mean)
        for cell in cells
        for p in (cell.point,)
    ]
    flags = pareto_front(coordinates, lower_is_better=(cost.better != "higher", lower))
    return [
        _Cell(cell.cost, cell.point, flag and math.isfinite(place[1]))
        for cell, place, flag in zip(cells, coordinates, flags, strict=True)
    ]


def _shown(cell: _Cell) -> float:
    return max(cell.cost, _LEAST)


def _draw_panel(axes: Axes, cells: Sequence[_Cell], edge: float) -> None:
    styles = method_styles(method_names([cell.point for cell in cells]))
    for cell in cells:
        colour, marker, _ = styles[cell.point.method]
        look = Look(colour, marker, 6.5 if cell.on_front else 5.0, pale=not cell.on_front)
        draw_point(axes, _shown(cell), cell.point, look, edge)
    front = sorted((cell for cell in cells if cell.on_front), key=_shown)
    places = [_shown(cell) for cell in front]
    means = [cell.point.mean or 0.0 for cell in front]
    axes.plot(places, means, color=DENSE_COLOUR, lw=0.8, zorder=2.2)


def _cost_axis(axes: Sequence[Axes], costs: Sequence[float], cost: Figure) -> None:
    label = axis_label(cost) if cost.column != "prune_seconds" else "calibration and pruning (s)"
    finite = [max(value, _LEAST) for value in costs]
    log = is_log(cost, finite)
    for one in axes:
        if log:
            room = max(0.08 * math.log10(max(finite) / min(finite)), 0.05)
            low, high = min(finite) / 10**room, max(finite) * 10**room
            one.set_xscale("log")
            one.set_xlim(low, high)
            ticks = log_ticks(low, high, most=6, gap=0.14)
            fix_ticks(one.xaxis, ticks, [plain_number(tick) for tick in ticks])
        else:
            one.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))
            one.margins(x=0.12)
        one.set_xlabel(log_label(label) if log else label)


def _legend(
    drawing: Drawing,
    found: Sequence[Point],
    panels: dict[str, list[_Cell]],
    dense: float | None,
) -> None:
    handles = method_handles(found)
    for handle in handles:
        if isinstance(handle, Line2D):
            handle.set_linestyle("")
    handles.append(Line2D([], [], color=DENSE_COLOUR, lw=0.8, label="front of the target"))
    if any(not cell.on_front for cells in panels.values() for cell in cells):
        pale: Artist = Line2D([], [], color="#444444", alpha=0.35, marker="o", ls="",
                              label="paler: beaten in both")  # fmt: skip
        handles.append(pale)
    if dense is not None:
        handles.append(dense_handle("dense"))
    place_legend(drawing, handles, 2 if any(p.learned for p in found) else 3, handlelength=1.6)
