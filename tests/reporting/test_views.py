"""The order of rows, and what tables and plots read out of them."""

from __future__ import annotations

import math
import random

import pytest

from tasks.reporting.ordering import sort_rows, target_key
from tasks.reporting.rows import Row
from tasks.reporting.text import short_name, short_names
from tasks.reporting.views import best, dense_value, learning, points, ratio

from .conftest import cell_row, dense_row, failed_row, figure_of


def _names(rows: list[Row]) -> list[tuple]:
    return [tuple(row.get(key) for key in ("model", "method", "target", "seed")) for row in rows]


def test_dense_comes_first_then_method_target_and_seed() -> None:
    ordered = [
        dense_row("b"),
        *(
            cell_row(method, target, 50.0, model="b", seed=seed)
            for method in ("wanda", "ast", "magnitude")
            for target in ("0.3", "0.5", "2:4", "4:8", "0.75")
            for seed in (0, 2, 10)
        ),
        dense_row("a"),
        cell_row("magnitude", "0.5", 50.0, model="a"),
    ]
    shuffled = random.Random(0).sample(ordered, len(ordered))
    found = sort_rows(shuffled, methods=["wanda", "ast", "magnitude"], models=["b", "a"])
    assert _names(found) == _names(ordered)


def test_unlisted_methods_follow_as_they_appear() -> None:
    rows = [cell_row(method, "0.5", 50.0) for method in ("new", "other", "wanda")]
    assert [row["method"] for row in sort_rows(rows, ["wanda"])] == ["wanda", "new", "other"]


def test_targets_sort_by_sparsity() -> None:
    targets = ["1:4", "odd", "0.5", "4:8", None, "2:4", "0.05"]
    expected = [None, "0.05", "0.5", "2:4", "4:8", "1:4", "odd"]
    assert sorted(targets, key=target_key) == expected


def test_best_is_the_lowest_mean_of_each_target(rows: list[Row]) -> None:
    found = best(rows, "tiny", figure_of(rows))
    assert found == {("wanda", "0.3"), ("wanda", "0.5"), ("wanda", "2:4")}
    assert best(rows, "tiny", figure_of(rows, "sparsity")) == set()


def test_best_needs_a_rival_and_never_diverged() -> None:
    def winners(*cells: Row) -> set[tuple[str, str]]:
        return best(list(cells), "tiny", figure_of(list(cells)))

    alone = cell_row("wanda", "0.5", 60.0)
    lucky = [cell_row("swiftprune", "0.5", value, seed=k) for k, value in enumerate((9, math.inf))]
    tied, worse = cell_row("magnitude", "0.5", 60.001), cell_row("ast", "0.5", 61.0)
    assert winners(alone) == set()
    assert winners(alone, *lucky) == {("wanda", "0.5")}
    assert winners(alone, tied, worse) == {("wanda", "0.5"), ("magnitude", "0.5")}
    assert winners(alone, tied) == set()  # what all reach tells none apart


def test_a_difference_within_the_error_is_a_tie() -> None:
    def cells(*accuracies: float, error: float) -> list[Row]:
        more = {"zero_shot/mean_stderr": error}
        names = ("wanda", "magnitude", "ast")
        return [
            cell_row(name, "0.5", 60.0, **{"zero_shot/mean": value}, **more)
            for name, value in zip(names, accuracies, strict=True)
        ]

    for error, expected in ((0.001, {"wanda"}), (0.03, {"wanda", "magnitude"}), (0.3, set())):
        rows = cells(0.60, 0.57, 0.40, error=error)
        found = best(rows, "tiny", figure_of(rows, "zero_shot/mean"))
        assert {method for method, _ in found} == expected


def test_what_lies_between_the_best_and_what_ties_with_it_is_best_too() -> None:
    """A large error of its own shall not be a merit."""
    means = {"wanda": (50.0, 50.1), "magnitude": (55.0, 55.1), "ast": (40.0, 80.0)}
    rows = [
        cell_row(method, "0.5", value, seed=seed)
        for method, values in {**means, "swiftprune": (70.0, 70.1)}.items()
        for seed, value in enumerate(values)
    ]
    assert best(rows, "tiny", figure_of(rows)) == {(method, "0.5") for method in means}


def test_seeds_make_one_point_and_failed_cells_none() -> None:
    values = (60.0, 66.0, math.inf)
    rows = [cell_row("wanda", "0.5", value, seed=seed) for seed, value in enumerate(values)]
    (point,) = points([*rows, failed_row("x"), dense_row()], "tiny", figure_of(rows))
    assert point.values == values
    assert (point.mean, point.diverged) == (63.0, True)
    assert point.standard_error == pytest.approx(3.0)  # stdev √18 of two, by √2


def test_seeds_and_the_figures_own_error_add_up() -> None:
    more = {"zero_shot/mean_stderr": 0.04}
    values = (0.50, 0.56)  # their mean's error is 0.03
    rows = [
        cell_row("wanda", "0.5", 60.0, seed=seed, **{"zero_shot/mean": value}, **more)
        for seed, value in enumerate(values)
    ]
    (point,) = points(rows, "tiny", figure_of(rows, "zero_shot/mean"))
    assert point.over_seeds == pytest.approx(0.03)
    assert point.standard_error == pytest.approx(0.05)
    (alike,) = points(rows, "tiny", figure_of(rows))
    assert alike.over_seeds is None, "one result, listed twice"


def test_the_mean_lies_between_the_seeds() -> None:
    rows = [cell_row("wanda", "0.5", 0.1 + 0.2, seed=seed) for seed in range(3)]
    (point,) = points(rows, "tiny", figure_of(rows))
    assert point.mean == 0.1 + 0.2


def test_what_is_added_to_a_cost_counts() -> None:
    rows = [cell_row("wanda", "0.5", 60.0, prune_seconds=3.0, calibration_seconds=9.0)]
    (point,) = points(rows, "tiny", figure_of(rows, "prune_seconds"))
    assert point.values == (12.0,)


def test_dense_values_come_from_cells_where_the_dense_row_is_missing(rows: list[Row]) -> None:
    figure = figure_of(rows)
    assert dense_value(rows, "tiny", figure) == 28.1
    assert dense_value(rows[1:], "tiny", figure) == 28.1
    assert dense_value(rows, "other", figure) is None
    assert ratio(rows[1], rows, figure) == pytest.approx(45 / 28.1)


def test_speed_is_compared_on_the_same_hardware_only() -> None:
    column, place = "speed/decode_tokens_per_second", "speed/hardware"
    rows = [dense_row() | {column: 20.0, place: "NVIDIA H100 80GB HBM3"}]
    for target, speed, hardware in (("0.5", 30.0, rows[0][place]), ("0.7", 90.0, "NVIDIA A100")):
        rows.append(cell_row("wanda", target, 60.0) | {column: speed, place: hardware})
    figure = figure_of(rows, column)
    assert [ratio(row, rows, figure) for row in rows] == [1.0, 1.5, None]
    assert [point.values for point in points(rows, "tiny", figure, relative=True)] == [(1.5,)]


def test_only_methods_that_learned_say_so() -> None:
    mask = {"learned": "mask", "training_tokens": 3_000_000}
    cells = [cell_row("wanda", "0.5", 60.0), cell_row("policy_gradient", "0.2", 40.0, **mask)]
    assert [learning(row) for row in cells] == ["", "mask, 3M tokens"]


def test_short_name_drops_folder_and_organisation() -> None:
    assert short_name("org/model") == "model"
    assert short_name("some/folder/") == "folder"


def test_models_of_one_folder_name_are_told_apart_by_what_stands_before() -> None:
    paths = ["./a/final", "./b/final", "org/c", "/x/b/final/"]
    names = short_names(paths)
    assert names == {
        "./a/final": "a/final",
        "./b/final": "./b/final",
        "org/c": "c",
        "/x/b/final/": "x/b/final",
    }
    assert short_names(["runs/1/final", "runs/2/final", "runs/1/other"]) == {
        "runs/1/final": "1/final",
        "runs/2/final": "2/final",
        "runs/1/other": "other",
    }
    assert short_names(["final", "a/final"]) == {"final": "final", "a/final": "a/final"}
