"""How a figure, such as zeros, spreads over layers: a small map a cell, blocks against layers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawn
from matplotlib.ticker import MaxNLocator

from tasks.measures.figures import Figure
from tasks.reporting.charts.chart import axis_label
from tasks.reporting.charts.style import FAINT
from tasks.reporting.plots.paper import WIDTH
from tasks.reporting.text import one_line, scaled

Cells = Mapping[str, Mapping[str, float]]
"""Label of a cell → layer name → value, layers in the model's order."""

_MOST_EVEN = 3
"""Panels that are drawn of cells with the same value in every layer."""
_EVEN = 1e-3
LEAST_RANGE = 10.0
"""Percentage points that the colours span at least, so that rounding does not look like choice."""


class LayerPlace(NamedTuple):
    """Where a layer is."""

    block: int
    kind: str


def draw_layers(model: str, figure: Figure, cells: Cells) -> Drawn | None:
    """Each block (columns) and kind of layer (rows), a panel a cell, one colour scale.

    Cells with the same value in every layer have nothing to show: where others have, or there
    are many of them, they are counted and not drawn.

    Layers that differ only in further numbers, such as experts, share a row and are averaged. A
    cell's title gives its mean over layers, each counting the same, and its extremes.

    Returns:
        None when no cell has a layer.
    """
    cells = {label: layers for label, layers in cells.items() if layers}
    if not cells:
        return None
    kept = _worth_drawing(cells)
    omitted = len(cells) - len(kept)
    values = {
        label: {name: scaled(figure, value) for name, value in cells[label].items()}
        for label in kept
    }
    places = {name: layer_place(name) for layers in values.values() for name in layers}
    kinds = list(dict.fromkeys(place.kind for place in places.values()))
    blocks = 1 + max(place.block for place in places.values())
    height = 0.75 + len(values) * (0.42 + max(0.13 * len(kinds), 0.3))
    drawn = Drawn(figsize=(WIDTH, height), layout="constrained")
    grid = drawn.subplots(len(values), 1, sharex=True, sharey=True, squeeze=False)
    low, high = _colour_range([v for layers in values.values() for v in layers.values()], figure)
    for axes, (label, layers) in zip(grid.flat, values.items(), strict=False):
        map_KB = _map(layers, places, kinds, blocks)
        colours = colormaps["viridis"].with_extremes(bad=FAINT)
        axes.imshow(map_KB, aspect="auto", vmin=low, vmax=high, cmap=colours)
        even = label in _even(cells)
        _label_panel(axes, label, list(layers.values()), kinds, figure.unit, even=even)
    drawn.suptitle(f"{model}: {figure.label} by layer")
    more = f"\n{omitted} more with the same in every layer" if omitted else ""
    drawn.supxlabel(f"block{more}")
    scale = grid[0, 0].images[0]
    bar = drawn.colorbar(scale, ax=grid, label=axis_label(figure), fraction=0.04, pad=0.02)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    return drawn


def _even(cells: Cells) -> set[str]:
    return {
        label
        for label, layers in cells.items()
        if max(layers.values()) - min(layers.values()) < _EVEN
    }


def _worth_drawing(cells: Cells) -> list[str]:
    even = _even(cells)
    if len(even) <= _MOST_EVEN:
        return list(cells)
    kept = list(cells)[:_MOST_EVEN] if len(even) == len(cells) else cells.keys() - even
    return [label for label in cells if label in kept]


def _map(
    layers: Mapping[str, float], places: Mapping[str, LayerPlace], kinds: Sequence[str], blocks: int
) -> list[list[float]]:
    """Values, kinds × blocks; nan where the cell has no such layer."""
    found: dict[LayerPlace, list[float]] = {}
    for name, value in layers.items():
        found.setdefault(places[name], []).append(value)
    means = {place: sum(values) / len(values) for place, values in found.items()}
    return [
        [means.get(LayerPlace(block, kind), math.nan) for block in range(blocks)] for kind in kinds
    ]


def _label_panel(
    axes: Axes, label: str, values: list[float], kinds: Sequence[str], unit: str, *, even: bool
) -> None:
    mean = f"{sum(values) / len(values):.1f} {unit}".strip()
    spread = f"{min(values):.1f} to {max(values):.1f}"
    told = f"{mean} in every layer" if even else f"layer mean {mean}, {spread}"
    axes.set_title(f"{one_line(label, 34)}\n{told}", loc="left")
    axes.set_yticks(range(len(kinds)), _short(kinds))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.grid(visible=False)
    axes.tick_params(length=2)
    axes.label_outer()


def _colour_range(values: list[float], figure: Figure) -> tuple[float, float]:
    low, high = min(values), max(values)
    if figure.format != "percent":
        return low, high
    lacking = max(LEAST_RANGE - (high - low), 0.0) / 2
    return max(low - lacking, 0.0), min(high + lacking, 100.0)


def layer_place(name: str) -> LayerPlace:
    """Block and kind: the first number is the block's, later ones are shared over."""
    match = re.search(r"(?:^|\.)(\d+)(?:\.|$)", name)
    if match is None:
        return LayerPlace(0, name)
    rest = re.sub(r"(?<=\.)\d+(?=\.|$)", "*", "." + name[match.end() :])
    return LayerPlace(int(match[1]), name[: match.start()] + ".*" + rest)


def _short(kinds: Sequence[str]) -> list[str]:
    """The last parts of each kind's name, as many as tell all kinds apart."""
    parts = [[part for part in kind.split(".") if part != "*"] or [kind] for kind in kinds]
    for taken in range(1, max(map(len, parts)) + 1):
        short = [".".join(part[-taken:]) for part in parts]
        if len(set(short)) == len(short):
            return short
    return list(kinds)
