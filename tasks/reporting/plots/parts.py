"""What each part of a figure lost: a map of cells against parts, such as the events of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib import colormaps
from matplotlib.figure import Figure as Drawn

from tasks.measures.figures import Figure
from tasks.reporting import views
from tasks.reporting.charts.style import FAINT
from tasks.reporting.plots.paper import WIDTH
from tasks.reporting.rows import Row, is_completed, is_dense
from tasks.reporting.text import one_line

_DARK = 0.5
"""Share of the scale up to which numbers are white on it."""


def wholes_of(figures: Sequence[Figure]) -> Mapping[str, list[Figure]]:
    """Column of a whole → its parts, where there are several."""
    found: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.part_of:
            found.setdefault(figure.part_of, []).append(figure)
    return {whole: parts for whole, parts in found.items() if len(parts) > 1}


def lost(rows: Sequence[Row], parts: Sequence[Figure]) -> dict[str, list[float | None]]:
    """Method, selection and target → how much worse than dense each part is, seeds averaged.

    Args:
        rows: of one model.
    """
    done = [row for row in rows if is_completed(row)]
    dense = next((row for row in done if is_dense(row)), None)
    found: dict[str, list[float | None]] = {}
    if dense is None:
        return found
    for place, part in enumerate(parts):
        before = part.value(dense)
        for point in views.points(done, str(dense["model"]), part):
            losses = found.setdefault(f"{point.method} {point.target}", [None] * len(parts))
            if before is not None and point.mean is not None:
                higher = part.better == "higher"
                losses[place] = before - point.mean if higher else point.mean - before
    return found


def draw_parts(
    model: str, whole: Figure, parts: Sequence[Figure], rows: Sequence[Row]
) -> Drawn | None:
    """A row a cell, a column a part, the loss in each field.

    Args:
        rows: of this model.

    Returns:
        None when no cell has a value.
    """
    values = lost(rows, parts)
    numbers = [value for row in values.values() for value in row if value is not None]
    if not numbers:
        return None
    drawn = Drawn(figsize=(WIDTH, 1.5 + 0.19 * len(values)), layout="constrained")
    axes = drawn.subplots()
    low, high = min(0.0, *numbers), max(0.0, *numbers)
    colours = colormaps["viridis"].with_extremes(bad=FAINT)
    map_CP = [[float("nan") if v is None else v for v in row] for row in values.values()]
    axes.imshow(map_CP, aspect="auto", vmin=low, vmax=high, cmap=colours)
    for y, row in enumerate(values.values()):
        for x, value in enumerate(row):
            if value is not None:
                dark = value < low + _DARK * (high - low)
                colour = "white" if dark else "black"
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", color=colour)
    axes.set_yticks(range(len(values)), [one_line(label, 22) for label in values])
    names = [part.heading for part in parts]
    axes.set_xticks(range(len(parts)), names, rotation=30, ha="right", rotation_mode="anchor")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    drawn.suptitle(f"{model}: {whole.label}, lost by part")
    return drawn
