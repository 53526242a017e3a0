"""What is drawn, before anyone draws it: matplotlib and the page's script show the same charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

from tasks.measures.figures import PRUNING, Figure, present
from tasks.reporting.charts.chart import Chart, distinct
from tasks.reporting.charts.cost import against_cost
from tasks.reporting.charts.scatter import against_estimate
from tasks.reporting.charts.selections import by_selection
from tasks.reporting.charts.side_by_side import by_model
from tasks.reporting.charts.sparsity import against_sparsity
from tasks.reporting.rows import Row, is_completed
from tasks.reporting.text import short_names
from tasks.reporting.views import models, of_model


def charts_of(rows: Sequence[Row], figures: Sequence[Figure]) -> list[Chart]:
    """Headline figures of several models side by side; then for each model: quality and speed
    against sparsity, headline figures by selection and against each cost, and estimates against
    what they estimate.

    Args:
        rows: methods in the order that legends shall have.

    Returns:
        Those that have something to show, with names that tell them apart as files.
    """
    figures = present(figures, [row for row in rows if is_completed(row)])
    plotted = [figure for figure in figures if figure.role in ("quality", "speed")]
    costs = [figure for figure in figures if figure.role in ("cost", "speed")]
    costs.sort(key=lambda figure: figure not in PRUNING)
    headline = [figure for figure in figures if figure.headline]
    several = len(models(rows)) > 1
    names = short_names(models(rows))

    def of_models(draw: Callable[[list[Row], str], Chart | None]) -> list[Chart]:
        drawn = [(model, draw(of_model(rows, model), model)) for model in models(rows)]
        return [
            replace(chart, stem=f"{chart.stem}-{model}", title=names[model]) if several else chart
            for model, chart in drawn
            if chart
        ]

    # The models of one figure follow each other: a page shows them abreast.
    charts = [chart for figure in headline if (chart := by_model(rows, figure, figures))]
    for figure in plotted:
        charts += of_models(lambda r, m, f=figure: against_sparsity(r, m, f, figures))
    for figure in headline:
        charts += of_models(lambda r, m, f=figure: by_selection(r, m, f, figures))
    for figure, cost in product(headline, costs):
        charts += of_models(lambda r, m, f=figure, c=cost: against_cost(r, m, f, c, figures))
    known = {figure.column: figure for figure in figures}
    for figure in figures:
        if told := known.get(figure.estimates):
            charts += of_models(
                lambda r, m, f=figure, t=told: against_estimate(r, m, f, t, figures)
            )
    stems = distinct([chart.stem for chart in charts])
    return [replace(chart, stem=stem) for chart, stem in zip(charts, stems, strict=True)]
