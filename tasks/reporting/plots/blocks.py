"""Where a method loses: sparsity and a figure of each block, one above the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tasks.measures.figures import Figure
from tasks.reporting.plots.layers import Layers, layer_place
from tasks.reporting.plots.parts import folded, is_log, log_label, place_legend, title
from tasks.reporting.plots.style import WIDTH, linear_axis, log_axis, method_styles
from tasks.reporting.text import axis_label, on_axis
from tasks.reporting.views import SPARSITY

_HEIGHT = 3.2


def draw_blocks(
    model: str, target: str, sparsity: Layers, values: Layers, figure: Figure
) -> Drawing | None:
    """A line a method over the blocks; a block's value is the mean of its layers'.

    Args:
        target: the cells drawn, those whose label ends in it, ``<method> <target>``.
        sparsity: label → layer → fraction of zeros.
        values: label → layer → the figure there.

    Returns:
        None when no cell of ``target`` has one.
    """
    labels = [
        label for label, layers in values.items() if layers and label.split(" ")[-1] == target
    ]
    if not labels:
        return None
    drawing = Drawing(figsize=(WIDTH, _HEIGHT), layout="constrained")
    upper, lower = drawing.subplots(2, 1, sharex=True, height_ratios=[1, 1.4])
    methods = [label.rpartition(" ")[0] for label in labels]
    named = list(zip(methods, labels, strict=True))
    zeros = {method: _by_block(sparsity.get(label, {}), SPARSITY) for method, label in named}
    lost = {method: _by_block(values[label], figure) for method, label in named}
    _draw_lines(upper, zeros, SPARSITY, "sparsity\n(% zeros)", least_spread=10)
    _draw_lines(lower, lost, figure, folded(axis_label(figure), 24), least_spread=0)
    lower.set_xlabel("block")
    lower.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    title(upper, model, f"target {target}; mean over each block's layers")
    styles = method_styles(methods)
    handles: list[Artist] = [
        Line2D([], [], color=styles[name].colour, marker=styles[name].marker,
               ls=styles[name].line, label=name)
        for name in methods
    ]  # fmt: skip
    place_legend(drawing, handles)
    return drawing


def _by_block(layers: Mapping[str, float], figure: Figure) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for name, value in layers.items():
        found.setdefault(layer_place(name).block, []).append(on_axis(figure, value))
    return {block: sum(values) / len(values) for block, values in sorted(found.items())}


def _draw_lines(
    axes: Axes,
    lines: Mapping[str, Mapping[int, float]],
    figure: Figure,
    label: str,
    *,
    least_spread: float,
) -> None:
    styles = method_styles(lines)
    for rank, (name, by_block) in enumerate(lines.items()):
        style = styles[name]
        # Where lines coincide the later marks fall between those of the earlier.
        every = (rank % 4, max(len(by_block) // 8, 1)) if len(by_block) > 12 else 1
        axes.plot(
            list(by_block), list(by_block.values()), color=style.colour, linestyle=style.line,
            marker=style.marker, markersize=4.0, markeredgecolor="white", markevery=every,
            linewidth=max(1.6 - 0.12 * rank, 1.0),
        )  # fmt: skip
    values = [value for by_block in lines.values() for value in by_block.values()]
    if not values:
        axes.set_ylabel(label)
        return
    log = is_log(figure, values)
    (log_axis if log else linear_axis)([axes], _widened(values, least_spread))
    axes.set_ylabel(log_label(label) if log else label)


def _widened(values: Sequence[float], least: float) -> list[float]:
    """``values``, with two more so that their spread is ``least``: rounding is not to look big."""
    lacking = max(least - (max(values) - min(values)), 0.0) / 2
    return [*values, max(min(values) - lacking, 0.0), max(values) + lacking]
