"""Rows that differ in how windows were chosen: apart in tables and charts, paired by seed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from tasks.reporting.charts import charts_of
from tasks.reporting.ordering import sort_rows
from tasks.reporting.plots import write_plots
from tasks.reporting.plots.chart import draw_chart
from tasks.reporting.plots.paper import plain_style
from tasks.reporting.rows import Row
from tasks.reporting.tables.table import OVER_SEEDS, results_tables
from tasks.reporting.views import best, points

from .conftest import cell_row, dense_row, figure_of, figures_in

VALUES = {"contiguous": (66.0, 65.0), "spread": (60.0, 61.0), "coreset": (61.5, 62.0)}


def rows() -> list[Row]:
    cells = [
        cell_row(method, "0.5", value + 10 * (method == "swiftprune"), selection=name, seed=seed)
        for method in ("wanda", "swiftprune")
        for name, values in VALUES.items()
        for seed, value in enumerate(values)
    ]
    return [dense_row(), *cells]


def test_seeds_are_averaged_within_a_selection_alone() -> None:
    found = points(rows(), "tiny", figure_of(rows()))
    assert {point.method: point.mean for point in found} == {
        f"{method} {name}": sum(values) / 2 + 10 * (method == "swiftprune")
        for method in ("wanda", "swiftprune")
        for name, values in VALUES.items()
    }
    assert best(rows(), "tiny", figure_of(rows())) == {("wanda spread", "0.5")}


def test_tables_name_the_selection_and_mark_the_best() -> None:
    table = results_tables(rows(), figures_in(rows()))[0]
    selection = next(column for column in table.columns if column.heading == "selection")
    assert list(selection.cells)[:3] == ["", "contiguous", "contiguous"]
    means = next(t for t in results_tables(rows(), figures_in(rows())) if t.title == OVER_SEEDS)
    chosen = next(column for column in means.columns if column.heading == "selection")
    marked = next(column.best for column in means.columns if column.best)
    assert {chosen.cells[place] for place in marked} == {"spread"}


def test_rows_keep_the_order_of_the_selections() -> None:
    ordered = sort_rows(list(reversed(rows())), ["wanda"], ["tiny"])
    seeds = [row["seed"] for row in ordered if row.get("selection") == "spread"]
    assert seeds == [0, 1, 0, 1]


def test_the_chart_has_a_point_a_seed_and_pairs_them(tmp_path: Path) -> None:
    charts = {chart.stem: chart for chart in charts_of(rows(), figures_in(rows()))}
    (panel,) = charts["perplexity-by-selection"].panels
    assert [name for _, name in panel.x.ticks] == list(VALUES)
    assert len(panel.marks) == 2 * 3 * 2
    assert len(panel.lines) == 2 * 2
    first = next(line for line in panel.lines if line.method == "wanda")
    assert [y for _, y in first.points] == [values[0] for values in VALUES.values()]
    assert all(round(x) == place for place, (x, _) in enumerate(first.points))
    written = write_plots(rows(), figures_in(rows()), {}, tmp_path)
    assert tmp_path / "plots" / "perplexity-by-selection.png" in written


def test_a_sweep_without_the_axis_has_no_such_chart() -> None:
    plain = [dense_row(), cell_row("wanda", "0.5", 60.0)]
    assert not any("selection" in chart.stem for chart in charts_of(plain, figures_in(plain)))
    headings = {
        c.heading for table in results_tables(plain, figures_in(plain)) for c in table.columns
    }
    assert "selection" not in headings


def test_names_of_selections_do_not_touch_beside_each_other() -> None:
    names = ("contiguous", "random", "spread", "coreset")
    cells = [
        cell_row("wanda", target, 60.0 + place, selection=name, seed=0)
        for target in ("0.3", "0.5")
        for place, name in enumerate(names)
    ]
    both = [dense_row(), *cells]
    charts = {chart.stem: chart for chart in charts_of(both, figures_in(both))}
    with plain_style():
        figure = draw_chart(charts["perplexity-by-selection"])
        figure.draw_without_rendering()
        for axes in figure.axes:
            labels = [label for label in axes.get_xticklabels() if label.get_text()]
            assert [label.get_text() for label in labels] == list(names)
            # A tilted word ends at its tick, so ends that are a line apart do not touch.
            assert {label.get_rotation() for label in labels} == {30}
            ends = [label.get_window_extent().x1 for label in labels]
            assert all(right - left > 12 for left, right in pairwise(ends))
