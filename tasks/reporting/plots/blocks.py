"""Where a method loses: a figure of each block under the block's zeros."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawn
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tasks.measures.figures import Figure
from tasks.reporting.charts.axis import is_log, value_axis
from tasks.reporting.charts.chart import axis_label
from tasks.reporting.charts.style import method_styles
from tasks.reporting.plots.layers import LEAST_RANGE, layer_place
from tasks.reporting.plots.paper import WIDTH, line_style, place_legend, set_y
from tasks.reporting.text import scaled

_HEIGHT = 3.2
Cells = Mapping[str, Mapping[str, float]]


def draw_blocks(model: str, target: str, shown: Sequence[tuple[Figure, Cells]]) -> Drawn | None:
    """A line a method over the blocks; a block's value is the mean of its layers'.

    Args:
        target: the cells drawn, those whose label ends in it, ``<method> <target>``.
        shown: (figure, label → layer → its value), one above the other; the last one decides
            which cells there are.

    Returns:
        None when no cell of ``target`` has the last figure.
    """
    labels = [
        label for label, layers in shown[-1][1].items() if layers and label.split(" ")[-1] == target
    ]
    if not labels:
        return None
    drawn = Drawn(figsize=(WIDTH, _HEIGHT), layout="constrained")
    grid = drawn.subplots(len(shown), 1, sharex=True, height_ratios=[1, 1.4][-len(shown) :])
    methods = [label.rpartition(" ")[0] for label in labels]
    for axes, (figure, cells) in zip(grid, shown, strict=True):
        lines = {
            method: _by_block(cells.get(label, {}), scaled(figure, 1.0))
            for method, label in zip(methods, labels, strict=True)
        }
        draw_lines(axes, figure, lines)
    grid[-1].set_xlabel("block")
    grid[-1].xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    note = f"target {target}; mean over each block's layers"
    grid[0].set_title(f"{model}\n{note}", loc="left")
    styles = method_styles(methods)
    handles = [
        Line2D([], [], color=styles[name].colour, marker=styles[name].marker,
               ls=line_style(styles[name]), label=name)
        for name in methods
    ]  # fmt: skip
    place_legend(drawn, handles)
    return drawn


def _by_block(layers: Mapping[str, float], factor: float) -> dict[float, float]:
    found: dict[float, list[float]] = {}
    for name, value in layers.items():
        found.setdefault(layer_place(name).block, []).append(factor * value)
    return {block: sum(values) / len(values) for block, values in sorted(found.items())}


def draw_lines(
    axes: Axes,
    figure: Figure,
    lines: Mapping[str, Mapping[float, float]],
    beside: Sequence[float] = (),
) -> None:
    """A line a method, name → place → value, and the figure's axis.

    Args:
        beside: further values that the axis has room for.
    """
    styles = method_styles(lines)
    for rank, (name, by_block) in enumerate(lines.items()):
        style = styles[name]
        # Where lines coincide the later marks fall between those of the earlier.
        every = (rank % 4, max(len(by_block) // 8, 1)) if len(by_block) > 12 else 1
        axes.plot(
            list(by_block), list(by_block.values()), color=style.colour, ls=line_style(style),
            marker=style.marker, markersize=4.0, markeredgecolor="white", markevery=every,
            linewidth=max(1.6 - 0.12 * rank, 1.0),
        )  # fmt: skip
    values = [*beside, *(value for by_block in lines.values() for value in by_block.values())]
    if values:
        least = LEAST_RANGE if figure.format == "percent" else 0.0
        axis = value_axis(
            axis_label(figure), _widened(values, least), log=is_log(figure, values), most=7
        )
        set_y(axes, axis)
        axes.set_ylabel(axis.label)
    else:
        axes.set_ylabel(axis_label(figure))


def _widened(values: Sequence[float], least: float) -> list[float]:
    """``values``, with two more so that their spread is ``least``: rounding is not to look big."""
    lacking = max(least - (max(values) - min(values)), 0.0) / 2
    return [*values, max(min(values) - lacking, 0.0), max(values) + lacking]
