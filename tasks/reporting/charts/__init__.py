"""What is drawn, before anyone draws it: matplotlib and the page's script show the same charts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

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

    def of_models(drawn: Callable[[list[Row], str], Iterable[Chart | None]]) -> list[Chart]:
        return [
            replace(chart, stem=f"{chart.stem}-{model}", title=names[model]) if several else chart
            for model in models(rows)
            for chart in drawn(of_model(rows, model), model)
            if chart
        ]

    charts = [chart for figure in headline if (chart := by_model(rows, figure, figures))]
    charts += of_models(lambda r, m: (against_sparsity(r, m, f, figures) for f in plotted))
    charts += of_models(lambda r, m: (by_selection(r, m, f, figures) for f in headline))
    pairs = [(quality, cost) for quality in headline for cost in costs]
    charts += of_models(lambda r, m: (against_cost(r, m, q, c, figures) for q, c in pairs))
    known = {figure.column: figure for figure in figures}
    guesses = [(f, known[f.estimates]) for f in figures if f.estimates in known]
    charts += of_models(lambda r, m: (against_estimate(r, m, g, t, figures) for g, t in guesses))
    stems = distinct([chart.stem for chart in charts])
    return [replace(chart, stem=stem) for chart, stem in zip(charts, stems, strict=True)]
