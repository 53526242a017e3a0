"""The order of rows, and what tables and plots read out of them."""

from __future__ import annotations

import math
import random

import pytest

from tasks.reporting.ordering import sort_rows, target_key
from tasks.reporting.rows import Row
from tasks.reporting.views import best, dense_perplexity, points, ratio_to_dense, short_name

from .conftest import cell_row, dense_row, failed_row


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
    assert best(rows, "tiny", "docs") == {("wanda", "0.3"), ("wanda", "0.5"), ("wanda", "2:4")}


def test_best_needs_a_rival_and_never_diverged() -> None:
    alone = [cell_row("wanda", "0.5", 60.0)]
    assert best(alone, "tiny", "docs") == set()
    lucky = [cell_row("swiftprune", "0.5", value, seed=k) for k, value in enumerate((9, math.inf))]
    assert best([*alone, *lucky], "tiny", "docs") == {("wanda", "0.5")}
    tied = [*alone, cell_row("magnitude", "0.5", 60.0)]
    assert best(tied, "tiny", "docs") == {("wanda", "0.5"), ("magnitude", "0.5")}


def test_seeds_make_one_point_and_failed_cells_none() -> None:
    values = (60.0, 66.0, math.inf)
    rows = [cell_row("wanda", "0.5", value, seed=seed) for seed, value in enumerate(values)]
    (point,) = points([*rows, failed_row("x"), dense_row()], "tiny", "docs")
    assert point.values == values
    assert (point.mean, point.diverged, point.seconds) == (63.0, True, 40.0)


def test_the_mean_lies_between_the_seeds() -> None:
    rows = [cell_row("wanda", "0.5", 0.1 + 0.2, seed=seed) for seed in range(3)]
    (point,) = points(rows, "tiny", "docs")
    assert point.mean == 0.1 + 0.2


def test_dense_perplexity_comes_from_cells_where_the_dense_row_is_missing(rows: list[Row]) -> None:
    assert dense_perplexity(rows, "tiny", "docs") == 28.1
    assert dense_perplexity(rows[1:], "tiny", "docs") == 28.1
    assert dense_perplexity(rows, "other", "docs") is None
    assert ratio_to_dense(rows[1], rows, "docs") == pytest.approx(45 / 28.1)


def test_short_name_drops_folder_and_organisation() -> None:
    assert short_name("org/model") == "model"
    assert short_name("some/folder/") == "folder"
    assert len(short_name("m" * 99, 24)) == 24
