"""The Pareto front against its definition, and what the plots make of it."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.axes import Axes

from tasks.reporting.costs import costs
from tasks.reporting.pareto import pareto_front
from tasks.reporting.plot_pareto import draw_pareto
from tasks.reporting.quality import accuracy, perplexity
from tasks.reporting.rows import Row
from tasks.reporting.style import FAINT, plain_style

from .conftest import cell_row, dense_row
from .realistic import large_sweep

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


def _drawn(rows: list[Row], stem: str, *, zero_shot: bool = False) -> Axes | None:
    cost = next(cost for cost in costs(rows, "tiny") if cost.stem == stem)
    quality = accuracy(rows, "tiny") if zero_shot else perplexity(rows, "tiny", "docs")
    with plain_style():
        figure = draw_pareto(rows, "tiny", quality, cost)
    return figure.axes[0] if figure else None


def _markers(axes: Axes) -> dict[tuple[float, float], str]:
    return {
        (float(line.get_xdata()[0]), float(line.get_ydata()[0])): str(line.get_color())
        for line in axes.lines
        if line.get_linestyle() == "None" and len(line.get_xdata()) == 1
    }


def test_time_competes_within_a_target_only() -> None:
    rows = [
        dense_row(),
        cell_row("magnitude", "0.5", 500.0),
        cell_row("wanda", "0.5", 60.0),
        cell_row("swiftprune", "0.5", 60.0),  # as good in a part of the time
        cell_row("wanda", "0.7", 900.0),
    ]
    axes = _drawn(rows, "time-vs-quality")
    assert axes is not None
    dominated = {place for place, colour in _markers(axes).items() if colour == FAINT}
    assert dominated == {(40.0, 60.0)}
    assert {text.get_text() for text in axes.texts} == {"0.5", "0.7"}


def test_size_competes_over_targets_and_with_the_dense_model() -> None:
    sizes = {"0.3": 80 << 20, "0.5": 60 << 20, "0.7": 60 << 20}
    rows = [dense_row() | {"bytes_on_disk": 80 << 20}]
    rows += [cell_row("wanda", t, 30 + 100 * float(t), bytes_on_disk=b) for t, b in sizes.items()]
    axes = _drawn(rows, "size-vs-quality")
    assert axes is not None
    dominated = {place for place, colour in _markers(axes).items() if colour == FAINT}
    assert dominated == {(80.0, 60.0), (60.0, 100.0)}
    assert [text.get_text() for text in axes.texts] == ["0.5"]


def test_costs_without_a_choice_are_not_drawn() -> None:
    """Masks change neither the size on disk nor, beyond noise, the speed."""
    column = "speed/decode_tokens_per_second"
    rows = [dense_row() | {"bytes_on_disk": 10**8, column: 20.0}]
    rows += [
        cell_row("wanda", t, 50.0, bytes_on_disk=10**8) | {column: 20.5} for t in ("0.3", "0.5")
    ]
    assert _drawn(rows, "size-vs-quality") is None
    assert _drawn(rows, "speed-vs-quality") is None
    assert _drawn([dense_row()], "time-vs-quality") is None
    rows[1][column] = 30.0
    assert _drawn(rows, "speed-vs-quality") is not None


def test_speed_on_other_hardware_is_left_out() -> None:
    column = "speed/decode_tokens_per_second"
    rows = [dense_row() | {column: 20.0, "speed/hardware": "a"}]
    for target, speed, place in (("0.3", 30.0, "a"), ("0.5", 90.0, "b")):
        rows.append(cell_row("wanda", target, 50.0) | {column: speed, "speed/hardware": place})
    axes = _drawn(rows, "speed-vs-quality")
    assert axes is not None
    assert {x for x, _ in _markers(axes)} == {20.0, 30.0}


def test_a_diverged_seed_is_dominated() -> None:
    rows = [cell_row("wanda", "0.5", value, seed=k) for k, value in enumerate((50.0, math.inf))]
    rows.append(cell_row("swiftprune", "0.5", 500.0, prune_seconds=90.0))
    axes = _drawn(rows, "time-vs-quality")
    assert axes is not None
    colours = _markers(axes)
    assert colours[40.0, 50.0] == FAINT
    assert colours[90.0, 500.0] != FAINT


def test_labels_cover_no_marker_and_no_other_label() -> None:
    rows = [row | {"model": "tiny"} for row in large_sweep()]
    for zero_shot in (False, True):
        axes = _drawn(rows, "speed-vs-quality", zero_shot=zero_shot)
        assert axes is not None and axes.texts
        axes.figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in axes.texts]
        assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
        markers = [axes.transData.transform(place) for place in _markers(axes)]
        assert not any(box.contains(*place) for box in boxes for place in markers)
