"""The README's pictures: ``python tests/benchmarks/pictures.py outputs/sweeps/quickstart``.

The front of the sweep's headline figure against time, as its report has it, and the graph of a cell
in five boxes; of a sweep of several models, them side by side instead, under the sweep's name. All
go to ``tests/benchmarks/figures/``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from matplotlib.figure import Figure as Drawing
from matplotlib.patches import FancyBboxPatch

from tasks.measures.figures import PRUNING
from tasks.measures.registry import figures_of
from tasks.reporting.charts import charts_of
from tasks.reporting.charts.side_by_side import by_model
from tasks.reporting.plots.chart import draw_chart
from tasks.reporting.plots.paper import plain_style, save
from tasks.reporting.rows import read_results
from tasks.reporting.views import models

FIGURES = Path(__file__).with_name("figures")
BOXES = (
    ("texts", "token windows,\ncut once"),
    ("statistics", "of the dense model,\nonce for all cells"),
    ("checkpoint", "one a cell:\npruned or retrained"),
    ("measures", "perplexity, agreement,\ntasks, speed, size"),
    ("report", "tables, plots,\nMLflow"),
)


def graph() -> Drawing:
    """The steps behind a cell, from left to right."""
    drawing = Drawing(figsize=(8.2, 1.25))
    axes = drawing.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, len(BOXES))
    axes.set_ylim(0, 1)
    for place, (name, what) in enumerate(BOXES):
        box = FancyBboxPatch((place + 0.08, 0.16), 0.78, 0.68, boxstyle="round,pad=0.02",
                             facecolor="#EEF3F8", edgecolor="#0072B2", linewidth=1.2)  # fmt: skip
        axes.add_patch(box)
        axes.text(place + 0.47, 0.66, name, ha="center", va="center", fontsize=10, weight="bold")
        axes.text(place + 0.47, 0.37, what, ha="center", va="center", fontsize=8)
        if place + 1 < len(BOXES):
            arrow = {"arrowstyle": "-|>", "color": "#444444", "lw": 1.2}
            axes.annotate("", (place + 1.06, 0.5), (place + 0.88, 0.5), arrowprops=arrow)
    return drawing


def side_by_side(folder: Path) -> Drawing:
    """The sweep's headline figure of every model."""
    rows = read_results(folder)
    figures = figures_of(list(dict.fromkeys(column for row in rows for column in row)))
    chart = by_model(rows, next(figure for figure in figures if figure.headline), figures)
    assert chart is not None
    return draw_chart(chart)


def front(folder: Path) -> Drawing:
    """The sweep's headline figure against what pruning cost."""
    rows = read_results(folder)
    figures = figures_of(list(dict.fromkeys(column for row in rows for column in row)))
    headline = next(figure for figure in figures if figure.headline)
    seconds = next(figure for figure in PRUNING if figure.column == "prune_seconds")
    # Of all charts, the one of these two: a headline figure is drawn against each cost.
    return draw_chart(charts_of(rows, [headline, seconds])[-1])


def main() -> None:
    """Write the pictures of a sweep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=Path, help="a sweep's folder, below outputs/sweeps")
    folder = parser.parse_args().sweep
    with plain_style():
        if len(models(read_results(folder))) > 1:
            drawn = {folder.name: side_by_side(folder)}
        else:
            drawn = {"graph": graph(), "quickstart": front(folder)}
        for name, drawing in drawn.items():
            print(save(drawing, FIGURES / f"{name}.png"))


if __name__ == "__main__":
    main()
