"""Risk and coverage: a figure of the questions that a model is surest of, ever more of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure as Drawn
from matplotlib.lines import Line2D

from tasks.measures.figures import Figure
from tasks.reporting.charts.style import method_styles
from tasks.reporting.plots.blocks import draw_lines
from tasks.reporting.plots.paper import HEIGHT, WIDTH, line_style, place_legend
from tasks.reporting.text import scaled

Curves = Mapping[str, Sequence[tuple[float, float]]]
"""Label of a cell → (part of the questions, the figure of those), growing."""


def draw_coverage(model: str, target: str, figure: Figure, cells: Curves) -> Drawn | None:
    """A line a method; None where no cell of ``target`` has a curve."""
    lines = {
        label.rpartition(" ")[0]: {100 * part: scaled(figure, value) for part, value in points}
        for label, points in cells.items()
        if points and label.split(" ")[-1] == target
    }
    if not lines:
        return None
    drawn = Drawn(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = drawn.subplots()
    draw_lines(axes, figure, lines)
    axes.set_xlim(0, 103)
    axes.set_xlabel("questions kept, surest first (%)")
    axes.set_title(f"{model}, target {target}\n{figure.label}", loc="left")
    styles = method_styles(lines)
    handles = [
        Line2D([], [], color=styles[name].colour, marker=styles[name].marker,
               ls=line_style(styles[name]), label=name)
        for name in lines
    ]  # fmt: skip
    place_legend(drawn, handles)
    return drawn
