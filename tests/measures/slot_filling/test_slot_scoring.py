"""The official scorer's arithmetic, thresholds and the bootstrap."""

from __future__ import annotations

import pytest
import torch

from tasks.measures.slot_filling.answers import Judged, precision_recall, score, thresholds_of
from tasks.measures.slot_filling.labels import instances_of
from tasks.measures.slot_filling.records import Tweet
from tasks.measures.slot_filling.schemes import COVID, scheme_of
from tasks.measures.slot_filling.scoring import (
    GRID,
    best_threshold,
    compare,
    standard_error,
)
from tasks.measures.tuning.scores import Counts, pooled


@pytest.mark.parametrize(
    ("gold", "predicted", "counts"),
    [
        (["Ann"], ["ann"], (1, 0, 0)),
        (["Ann", "Bob"], ["Ann", "Eve"], (1, 1, 1)),
        ([], ["Ann"], (0, 1, 0)),
        (["Ann"], [], (0, 0, 1)),
        ([], [], (0, 0, 0)),
        (["Ann"], ["Ann", "Ann"], (2, 0, 0)),
        (["Ann", "ann"], ["Ann"], (1, 0, 0)),
        (["Ann"], ["Eve", "Eve"], (0, 2, 1)),
        (["Not Specified"], ["Not Specified"], (0, 0, 0)),
        (["not specified"], ["Not Specified"], (0, 0, 1)),
    ],
)
def test_lists_are_compared_as_the_official_scorer_does(
    gold: list[str], predicted: list[str], counts: tuple[int, int, int]
) -> None:
    assert compare(gold, predicted) == Counts(*counts)


def test_repetitions_can_count_once() -> None:
    assert compare(["Ann"], ["Ann", "ANN", "Eve"], unique=True) == Counts(1, 1, 0)


def test_averages() -> None:
    counts = pooled([Counts(3, 1, 2), Counts(1, 1, 0)])
    assert (counts.precision, counts.recall) == (4 / 6, 4 / 6)
    assert counts.f1 == pytest.approx(2 / 3)
    assert Counts().f1 == Counts().precision == Counts().recall == 0.0


def test_the_threshold_is_the_median_of_the_best() -> None:
    separated = best_threshold([0.1, 0.2, 0.8, 0.9], [False, False, True, True])
    # 0.25 … 0.80 are equal: twelve of them.
    assert separated == pytest.approx(0.525)
    assert best_threshold([0.1, 0.33, 0.35], [False, False, True]) == pytest.approx(0.35)
    assert best_threshold([0.9, 0.1], [False, False]) == 0.5
    assert best_threshold([0.01], [True]) == 0.5, "nothing is ever chosen: all are equal"
    assert len(GRID) == 19


def test_the_bootstrap_is_seeded_and_about_right() -> None:
    tweets = [Counts(1, 0, 0)] * 50 + [Counts(0, 1, 1)] * 50
    error = standard_error(tweets, seed=3)
    assert error == standard_error(tweets, seed=3)
    # F1 is here the share of right tweets: a binomial's error.
    assert error == pytest.approx((0.5 * 0.5 / 100) ** 0.5, rel=0.1)
    assert standard_error([Counts(1, 0, 0)] * 5) == 0.0
    assert standard_error([]) == 0.0


def judged(probabilities: list[list[float]]) -> Judged:
    scheme = scheme_of({"order": ["item", "price"]})
    tweets = [
        Tweet("1", "order", "tea for 3", ((0, 3), (8, 9)), {"item": ((0, 3),), "price": ((8, 9),)}),
        Tweet("2", "order", "jam", ((0, 3),), {"item": ((0, 3),), "price": ()}),
    ]
    return Judged(
        tweets, instances_of(tweets, scheme), torch.tensor(probabilities, dtype=torch.float64)
    )


def test_a_score_is_counted_over_tweets() -> None:
    scheme = scheme_of({"order": ["item", "price"]})
    test = judged([[0.9, 0.2], [0.6, 0.4], [0.1, 0.7]])
    found = score(test, scheme, {0: 0.5, 1: 0.5})
    assert found.of_column(0) == Counts(1, 1, 1)
    assert found.of_column(1) == Counts(0, 1, 1)
    figures = found.figures(scheme)
    assert figures["f1"] == Counts(1, 2, 2).f1
    assert figures["macro_f1"] == pytest.approx((0.5 + 0.0) / 2)
    assert figures["events"] == {"order": figures["f1"]}
    assert score(test, scheme, {0: 0.95, 1: 0.95}).figures(scheme)["f1"] == 0.0


def test_precision_against_recall_as_one_threshold_moves() -> None:
    scheme = scheme_of({"order": ["item", "price"]})
    found = precision_recall(judged([[0.9, 0.2], [0.6, 0.4], [0.1, 0.7]]), scheme)
    # Wanted: items tea and jam, price 3. From 0.9 down the item tea is answered, below it the price
    # jam and the item 3, wrongly; from 0.4 the price 3, from 0.2 the price tea, from 0.1 all.
    assert found == [(pytest.approx(1 / 3), 1.0), (pytest.approx(2 / 3), 0.5), (1.0, 0.5)]
    assert precision_recall(judged([[0.0, 0.0]] * 3), scheme) == []


def test_thresholds_come_from_dev_or_are_given() -> None:
    scheme = scheme_of({"order": ["item", "price"]})
    dev = judged([[0.9, 0.2], [0.6, 0.4], [0.8, 0.7]])
    assert thresholds_of(dev, scheme, 0.3) == {0: 0.3, 1: 0.3}
    found = thresholds_of(dev, scheme, "dev")
    assert found[0] == pytest.approx(0.725)
    # Of 0.2, 0.4 and 0.7 the middle one is right: 0.25 … 0.40 choose it and 0.7.
    assert found[1] == pytest.approx(0.325)


def test_slots_that_are_not_scored_do_not_count() -> None:
    text = "three days"
    tweet = Tweet("1", "negative", text, ((0, 10),), {"how_long": ((0, 10),)})
    instances = instances_of([tweet], COVID)
    nothing = Judged([tweet], instances, torch.zeros(len(instances), 33, dtype=torch.float64))
    found = score(nothing, COVID, dict.fromkeys(range(33), 0.5))
    how_long = next(c for c, (_, slot) in enumerate(COVID.columns) if slot.name == "how_long")
    assert found.of_column(how_long) == Counts(0, 0, 1)
    assert found.figures(COVID)["recall"] == 0.0
    assert found.figures(COVID)["events"] == {}
