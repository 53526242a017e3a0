"""A figure over a share: of the questions that a model is surest of, or of what it recalls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure as Drawn
from matplotlib.lines import Line2D

from tasks.measures.figures import Figure
from tasks.reporting.charts.style import DENSE_COLOUR, DENSE_DASHES, method_styles
from tasks.reporting.plots.blocks import draw_lines
from tasks.reporting.plots.paper import HEIGHT, WIDTH, line_style, place_legend
from tasks.reporting.text import scaled

Curves = Mapping[str, Sequence[tuple[float, float]]]
"""Label of a cell, or :data:`DENSE`, → (share, the figure there), growing."""
DENSE = "dense"
_OVER = {"coverage": "questions kept, surest first (%)", "recall": "recall (%)"}


def draw_curve(model: str, target: str, figure: Figure, cells: Curves) -> Drawn | None:
    """A line a method, and the dense model's; None where no cell of ``target`` has a curve."""
    lines = {
        label.rpartition(" ")[0]: _points(figure, points)
        for label, points in cells.items()
        if points and label.split(" ")[-1] == target
    }
    if not lines:
        return None
    drawn = Drawn(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = drawn.subplots()
    styles = method_styles(lines)
    handles = [
        Line2D([], [], color=styles[name].colour, marker=styles[name].marker,
               ls=line_style(styles[name]), label=name)
        for name in lines
    ]  # fmt: skip
    dense = _points(figure, cells.get(DENSE, ()))
    if dense:
        dashes = (0, DENSE_DASHES)
        (line,) = axes.plot(list(dense), list(dense.values()), color=DENSE_COLOUR, ls=dashes,
                            linewidth=1.0, label=DENSE)  # fmt: skip
        handles.append(line)
    draw_lines(axes, figure, lines, beside=list(dense.values()))
    axes.set_xlim(0, 103)
    axes.set_xlabel(_OVER[figure.over])
    axes.set_title(f"{model}, target {target}\n{figure.label}", loc="left")
    place_legend(drawn, handles)
    return drawn


def _points(figure: Figure, points: Sequence[tuple[float, float]]) -> dict[float, float]:
    return {100 * share: scaled(figure, value) for share, value in points}
