"""What charts hold: fronts by their definition, marks in their place, axes that can be read."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.reporting.charts import charts_of
from tasks.reporting.charts.axis import linear_ticks, log_ticks, plain_number, value_axis
from tasks.reporting.charts.chart import Chart, Mark, Panel
from tasks.reporting.charts.pareto import pareto_front
from tasks.reporting.charts.style import method_styles
from tasks.reporting.rows import Row
from tasks.reporting.views import best

from .conftest import cell_row, dense_row, failed_row, figure_of, figures_in
from .realistic import large_sweep

DECODE, PLACE = "speed/decode_tokens_per_second", "speed/hardware"
# Few values, so that ties and equal points are common.
values = st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf, -math.inf, math.nan]) | st.floats()
problems = st.integers(1, 3).flatmap(
    lambda n: st.tuples(
        st.lists(st.tuples(*[values] * n), max_size=12), st.tuples(*[st.booleans()] * n)
    )
)


@given(problems)
@example(([(1.0, 1.0), (1.0, 1.0), (1.0, 2.0)], (True, True)))
@example(([(0.0, 1.0), (-0.0, 1.0)], (True, False)))
def test_the_front_is_what_no_other_beats(problem: tuple) -> None:
    points, lower = problem

    def at_least_as_good(one: float, other: float, is_lower: bool) -> bool:
        return one <= other if is_lower else one >= other

    def beats(one: tuple, other: tuple) -> bool:
        pairs = list(zip(one, other, lower, strict=True))
        return all(at_least_as_good(a, b, c) for a, b, c in pairs) and any(
            a != b for a, b, _ in pairs
        )

    expected = [
        not any(map(math.isnan, point)) and not any(beats(other, point) for other in points)
        for point in points
    ]
    assert pareto_front(points, lower_is_better=lower) == expected


def test_a_point_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="2 coordinates are expected, not 1"):
        pareto_front([(1.0,)], lower_is_better=(True, True))


def _charts(rows: list[Row]) -> dict[str, Chart]:
    return {chart.stem: chart for chart in charts_of(rows, figures_in(rows))}


def _marks(panel: Panel) -> dict[str, Mark]:
    return {mark.method: mark for mark in panel.marks}


def test_time_competes_within_a_target_only() -> None:
    rows = [
        dense_row(),
        cell_row("magnitude", "0.5", 500.0),
        cell_row("wanda", "0.5", 60.0, calibration_seconds=5.0),
        cell_row("swiftprune", "0.5", 60.0),  # as good in a part of the time
        cell_row("wanda", "0.7", 900.0),
        cell_row("magnitude", "0.7", 2000.0),
        cell_row("magnitude", "2:4", 9.0),  # nothing to choose
    ]
    chart = _charts(rows)["perplexity-vs-prune"]
    assert [panel.title for panel in chart.panels] == ["0.5", "0.7"]
    marks = _marks(chart.panels[0])
    assert {name: mark.pale for name, mark in marks.items()} == {
        "magnitude": False, "wanda": True, "swiftprune": False,
    }  # fmt: skip
    assert (marks["wanda"].x, marks["wanda"].y) == (45.0, 60.0)
    assert "time to prune: 45.0 s" in marks["wanda"].text
    (front,) = chart.panels[0].lines
    assert list(front.points) == [(0.6, 500.0), (5.0, 60.0)]
    assert chart.dense == 28.1 and chart.panels[0].x == chart.panels[1].x
    assert chart.panels[0].y.high < 600 < chart.panels[1].y.high


def test_choosing_a_coreset_is_part_of_the_time_to_prune() -> None:
    """Without it a coreset of many minutes lies at the place of windows that cost nothing."""
    spent = {"coreset/seconds": 60.0, "training_coreset/seconds": 100.0}
    rows = [
        cell_row("magnitude", "0.5", 500.0, selection="contiguous"),
        cell_row("wanda", "0.5", 60.0, selection="coreset", calibration_seconds=5.0, **spent),
        cell_row("wanda", "0.5", 60.0, selection="contiguous", calibration_seconds=5.0),
    ]
    (panel,) = _charts(rows)["perplexity-vs-prune"].panels
    found = {mark.method: (mark.x, mark.pale) for mark in panel.marks}
    assert found["wanda coreset"] == (205.0, True)
    assert found["wanda contiguous"] == (45.0, False)
    assert "time to prune: 205.0 s" in _marks(panel)["wanda coreset"].text


@given(st.lists(st.tuples(st.floats(-9, 9), st.sampled_from([1.0, 2.0])), min_size=1))
def test_costs_within_noise_do_not_decide(points: list[tuple[float, float]]) -> None:
    front = pareto_front(points, lower_is_better=(True, True), noise=(0.1, 0.0))
    assert any(front)
    for (cost, quality), on_front in zip(points, front, strict=True):
        assert not on_front or not any(q < quality and c <= cost for c, q in points)


def test_a_bit_of_memory_buys_no_place_on_the_front() -> None:
    spent = {"magnitude": (2000, 1800.0), "wanda": (2010, 90.0), "ast": (4000, 27.0)}
    rows = [
        cell_row(method, "2:4", harm, peak_memory_bytes=memory << 20)
        for method, (memory, harm) in spent.items()
    ]
    (panel,) = _charts(rows)["perplexity-vs-memory"].panels
    assert {name for name, mark in _marks(panel).items() if mark.pale} == {"magnitude"}
    assert best(rows, "tiny", figure_of(rows, "peak_memory_bytes")) == {
        ("magnitude", "2:4"), ("wanda", "2:4"),
    }  # fmt: skip


def test_size_competes_with_the_dense_model() -> None:
    sizes = {"wanda": 80, "ast": 60, "magnitude": 60}
    rows = [dense_row() | {"bytes_on_disk": 80 << 20}]
    rows += [
        cell_row(method, "0.5", 50.0 + size, bytes_on_disk=size << 20)
        for method, size in sizes.items()
    ]
    rows[-1]["perplexity/docs"] = 300.0
    chart = _charts(rows)["perplexity-vs-weights"]
    pale = {name for name, mark in _marks(chart.panels[0]).items() if mark.pale}
    assert pale == {"wanda", "magnitude"}
    assert _marks(chart.panels[0])["dense"].x == 80.0
    assert chart.dense is None and chart.dense_text == "dense (28.10)"


def test_costs_without_a_choice_are_not_drawn() -> None:
    """Masks change neither the size of the weights nor, beyond noise, the speed."""
    rows = [dense_row() | {"bytes_on_disk": 10**8, DECODE: 20.0}]
    rows += [
        cell_row(method, "0.5", 50.0, bytes_on_disk=10**8) | {DECODE: 20.5}
        for method in ("wanda", "ast")
    ]
    assert not {"perplexity-vs-weights", "perplexity-vs-decode"} & _charts(rows).keys()
    rows[1][DECODE] = 30.0
    assert "perplexity-vs-decode" in _charts(rows)


def test_speed_on_other_hardware_is_left_out() -> None:
    rows = [dense_row() | {DECODE: 20.0, PLACE: "here"}]
    for method, speed, place in (("wanda", 30.0, "here"), ("ast", 90.0, "there")):
        rows.append(cell_row(method, "0.5", 50.0) | {DECODE: speed, PLACE: place})
    charts = _charts(rows)
    assert {mark.x for mark in charts["perplexity-vs-decode"].panels[0].marks} == {20.0, 30.0}
    against = charts["decode-vs-sparsity"]
    assert [mark.y for mark in against.panels[0].marks] == [1.0, 1.5]
    assert "only on here" in against.note


def test_speed_noise_does_not_fill_the_axis() -> None:
    rows = [dense_row() | {DECODE: 20.0}, cell_row("wanda", "0.5", 50.0) | {DECODE: 20.2}]
    axis = _charts(rows)["decode-vs-sparsity"].panels[0].y
    assert not axis.log and axis.low <= 0.5 and axis.high >= 1.5


def test_a_diverged_seed_is_dominated_and_stands_at_the_edge() -> None:
    rows = [cell_row("wanda", "0.5", value, seed=k) for k, value in enumerate((50.0, math.inf))]
    rows.append(cell_row("swiftprune", "0.5", 500.0, prune_seconds=90.0))
    for chart in _charts(rows).values():
        (panel,) = chart.panels
        mark = _marks(panel)["wanda"]
        assert mark.diverged and mark.y == 50.0
        assert mark.pale == ("-vs-prune" in chart.stem)
        assert panel.y.ticks[-1] == (panel.y.edge, "diverged")
        assert 500.0 < (panel.y.strip or 0.0) < panel.y.edge < panel.y.high


def test_groups_stand_beside_the_line_with_their_share(rows: list[Row]) -> None:
    fractions, groups = _charts(rows)["perplexity-vs-sparsity"].panels
    assert [text for _, text in groups.x.ticks] == ["2:4\n50 %"]
    assert len(groups.marks) == 3 and not groups.lines
    assert [len(line.points) for line in fractions.lines] == [2, 2, 2]
    assert {mark.x for mark in fractions.marks} == {0.0, 30.0, 50.0}
    assert not fractions.x.log and fractions.x.low < 0 and fractions.x.high > 50
    assert fractions.y == groups.y


def test_the_dense_model_stands_where_its_own_zeros_are() -> None:
    cell = cell_row("wanda", "0.2", 40.0, sparsity=0.5)
    for zeros, x in ((0.4, 40.0), (0.0, 0.0), (None, 0.0)):
        (panel,) = _charts([dense_row() | {"sparsity": zeros}, cell])[
            "perplexity-vs-sparsity"
        ].panels
        assert panel.marks[0].method == "dense"
        assert panel.marks[0].x == pytest.approx(x)


def test_accuracy_has_bars_of_one_standard_error() -> None:
    rows = large_sweep(methods=("wanda",), tasks=("arc_easy",))[:3]
    for row in rows:
        row["zero_shot/mean_stderr"] = 0.02
    chart = _charts(rows)["zero-shot-vs-sparsity"]
    mark = _marks(chart.panels[0])["wanda"]
    assert mark.bar == pytest.approx(2.0)
    assert "± 1 standard error" in chart.note
    dense = 100 * float(str(rows[0]["zero_shot/mean"]))
    assert chart.dense == pytest.approx(dense)
    assert chart.panels[0].y.low < (mark.y or 0.0) - 2.0 and chart.panels[0].y.high > dense


def test_scales_are_as_figures_and_spreads_demand() -> None:
    rows = [
        cell_row("wanda", target, 50.0) | {"kl/docs": kl, "top1_agreement/docs": share}
        for target, kl, share in (("0.1", 0.001, 0.99), ("0.5", 2.0, 0.01), ("0.7", math.inf, 0.0))
    ]
    for chosen, logarithmic in ((rows, True), (rows[1:], False)):
        charts = _charts(chosen)
        for stem, expected in (("kl", logarithmic), ("top-1", False), ("perplexity", True)):
            axis = charts[f"{stem}-vs-sparsity"].panels[0].y
            assert axis.log == expected == ("log" in axis.label)
            assert axis.high >= 100.0 if stem == "top-1" else True


def test_marks_say_the_cell_and_its_figures() -> None:
    rows = large_sweep(methods=("ast",), seeds=(0, 1))
    panel = _charts(rows)["zero-shot-vs-sparsity"].panels[-1]
    text = panel.marks[0].text
    assert text.startswith("<b>ast 2:4</b><br>smollm2-135m, seeds 0, 1<br>perplexity on docs: ")
    assert (" × dense)" in text and "zeros: 4" in text) or "zeros: 5" in text
    assert text.endswith("learned: weights, 3M tokens")


@pytest.mark.parametrize("rows", [[], [dense_row()], [dense_row(), failed_row("no memory")]])
def test_without_a_completed_cell_nothing_is_drawn(rows: list[Row]) -> None:
    assert charts_of(rows, figures_in(rows)) == []


def test_names_tell_models_and_corpora_apart() -> None:
    more = {"perplexity/c4": 70.0, "prune_seconds": None}
    rows = [cell_row("wanda", "0.5", 60.0, model=model, **more) for model in ("a/b", "a-b")]
    assert list(_charts(rows)) == [
        "perplexity-docs-by-model",
        "perplexity-docs-vs-sparsity-a-b", "perplexity-docs-vs-sparsity-a-b-2",
        "perplexity-c4-vs-sparsity-a-b", "perplexity-c4-vs-sparsity-a-b-2",
    ]  # fmt: skip


def test_methods_keep_their_colour_and_differ_without_it() -> None:
    styles = method_styles(["wanda", "mine", "yours"])
    assert method_styles(["mine"])["wanda"] == styles["wanda"]
    for looks in ({s.colour for s in styles.values()}, {s.pale for s in styles.values()},
                  {(s.marker, s.dashes) for s in styles.values()}):  # fmt: skip
        assert len(looks) == len(styles)
    orange = method_styles([])["magnitude"]
    assert (orange.colour, orange.pale) == ("#E69F00", "#F6DB9E")


@settings(deadline=None)
@given(st.floats(1e-3, 1e12), st.floats(1.1, 1e9))
def test_ticks_are_few_and_inside(low: float, factor: float) -> None:
    high = low * factor
    for ticks, most in ((log_ticks(low, high), 8), (linear_ticks(low, high), 7)):
        assert 1 <= len(ticks) <= most
        assert ticks == sorted(set(ticks))
        assert all(low * (1 - 1e-6) <= tick <= high * (1 + 1e-6) for tick in ticks)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("values", [[], [math.inf], [1.0], [1e30, 1.0], [0.0], [5.0, 5.0]])
def test_any_values_have_an_axis(values: list[float], log: bool) -> None:
    axis = value_axis("x", values, log=log)
    assert -math.inf < axis.low < axis.high < math.inf
    assert (axis.strip is None) == all(map(math.isfinite, values))


def test_ticks_are_plain_numbers() -> None:
    assert [plain_number(tick) for tick in log_ticks(25, 2000)] == (
        ["30", "50", "100", "200", "300", "500", "1,000", "2,000"]
    )
    assert [plain_number(value) for value in (0.5, 1e7, 3e7)] == ["0.5", "10⁷", "3×10⁷"]


def test_an_estimate_stands_against_what_it_estimates() -> None:
    rows = [dense_row()]
    for method, shift in (("wanda", 0.0), ("swiftprune", 0.1)):
        for target, u in (("2:4", 0.3), ("0.3", 0.1), ("0.5", 0.2)):
            more = {"": u + shift, "/accuracy": 0.9 - u, "/entropy": 0.4, "/agreement": 0.8}
            told = {f"uncertainty/tales{kind}": value for kind, value in more.items()}
            rows.append(cell_row(method, target, 30.0, **told))
    rows.append(cell_row("magnitude", "0.3", 40.0))
    chart = _charts(rows)["accuracy-against-u"]
    (panel,) = chart.panels
    assert chart.methods == ["wanda", "swiftprune"]
    by_method = {line.method: line.points for line in panel.lines}
    assert by_method["wanda"] == [(0.1, pytest.approx(80)), (0.2, pytest.approx(70)),
                                  (0.3, pytest.approx(60))]  # fmt: skip
    assert len(panel.marks) == 6
    assert all("entropy" in mark.text and "agreement" in mark.text for mark in panel.marks)
    assert not any(mark.pale for mark in panel.marks)
    alone = [row for row in rows if row["method"] == "magnitude" or row.get("target") == "0.3"][:1]
    assert "accuracy-against-u" not in _charts(alone)


class TestModelsSideBySide:
    """One vertical axis: tokens differ between models, and multiples of dense compare."""

    ROWS = (
        dense_row("a/tiny", 20.0),
        cell_row("wanda", "0.5", 40.0, model="a/tiny"),
        cell_row("magnitude", "0.5", math.inf, model="a/tiny"),
        cell_row("wanda", "2:4", 60.0, model="a/tiny"),
        dense_row("b/tiny", 100.0),
        cell_row("wanda", "0.5", 150.0, model="b/tiny"),
    )

    def test_each_is_a_multiple_of_its_own_dense_model(self) -> None:
        chart = _charts([dict(row) for row in self.ROWS])["perplexity-by-model"]
        one, other = chart.panels
        assert [one.title, other.title] == ["a/tiny", "b/tiny"]
        assert one.y == other.y
        assert chart.dense == 1.0
        assert [text for _, text in one.x.ticks] == ["0.5", "2:4"]
        assert [(round(m.x), m.method, m.y) for m in one.marks] == [
            (0, "wanda", 2.0), (0, "magnitude", None), (1, "wanda", 3.0)
        ]  # fmt: skip
        assert [mark.diverged for mark in one.marks] == [False, True, False]
        assert [(round(m.x), m.y) for m in other.marks] == [(0, 1.5)]
        assert one.marks[0].x == other.marks[0].x, "a method has one place"
        assert "(1.50 × dense)" in other.marks[0].text

    def test_one_model_has_no_such_chart(self) -> None:
        rows = [dict(row) for row in self.ROWS if row["model"] == "a/tiny"]
        assert not any("by-model" in stem for stem in _charts(rows))


def test_a_failed_seed_is_dominated_and_told() -> None:
    rows = [cell_row("wanda", "0.5", 50.0, seed=0)]
    rows.append(cell_row("wanda", "0.5", None, seed=1, status="failed"))
    rows.append(cell_row("swiftprune", "0.5", 500.0, prune_seconds=90.0))
    for chart in _charts(rows).values():
        (panel,) = chart.panels
        mark = _marks(panel)["wanda"]
        assert mark.y == 50.0 and "failed: 1 of 2 seeds" in mark.text
        assert mark.pale == ("-vs-prune" in chart.stem)
        assert "some seeds failed" in chart.asides["wanda"]
