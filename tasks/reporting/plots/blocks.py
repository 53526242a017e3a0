"""Where a method loses: sparsity and reconstruction error of each block, one above the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from tasks.reporting.plot_layers import LayerSparsity, layer_place
from tasks.reporting.plot_parts import log_label, place_legend, title
from tasks.reporting.quality import LOG_SPREAD
from tasks.reporting.style import WIDTH, linear_axis, method_styles, perplexity_axis

_HEIGHT = 3.2


def draw_errors(
    model: str, target: str, sparsity: LayerSparsity, errors: LayerSparsity
) -> Figure | None:
    """A line a method over the blocks; a block's value is the mean of its layers'.

    Args:
        target: the cells drawn, those whose label ends in it, ``<method> <target>``.
        sparsity: label → layer → fraction of zeros.
        errors: label → layer → relative error, 0 for an unpruned layer and 1 for one of zeros.

    Returns:
        None when no cell of ``target`` has an error.
    """
    labels = [
        label for label, layers in errors.items() if layers and label.split(" ")[-1] == target
    ]
    if not labels:
        return None
    figure = Figure(figsize=(WIDTH, _HEIGHT), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.4])
    methods = [label.rpartition(" ")[0] for label in labels]
    zeros = {m: _by_block(sparsity.get(x, {}), 100) for m, x in zip(methods, labels, strict=True)}
    lost = {m: _by_block(errors[x], 1) for m, x in zip(methods, labels, strict=True)}
    _draw_lines(upper, zeros, "sparsity\n(% zeros)", least_spread=10)
    _draw_lines(lower, lost, "reconstruction error", least_spread=0)
    lower.set_xlabel("block")
    lower.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    title(upper, model, f"target {target}; mean over each block's layers")
    styles = method_styles(methods)
    handles: list[Artist] = [
        Line2D([], [], color=styles[name].colour, marker=styles[name].marker,
               ls=styles[name].line, label=name)
        for name in methods
    ]  # fmt: skip
    place_legend(figure, handles)
    return figure


def _by_block(layers: Mapping[str, float], factor: float) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for name, value in layers.items():
        found.setdefault(layer_place(name).block, []).append(factor * value)
    return {block: sum(values) / len(values) for block, values in sorted(found.items())}


def _draw_lines(
    axes: Axes, lines: Mapping[str, Mapping[int, float]], label: str, *, least_spread: float
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
    log = min(values) > 0 and max(values) / min(values) > LOG_SPREAD
    (perplexity_axis if log else linear_axis)([axes], _widened(values, least_spread))
    axes.set_ylabel(log_label(label) if log else label)


def _widened(values: Sequence[float], least: float) -> list[float]:
    """``values``, with two more so that their spread is ``least``: rounding is not to look big."""
    lacking = max(least - (max(values) - min(values)), 0.0) / 2
    return [*values, max(min(values) - lacking, 0.0), max(values) + lacking]
