"""A difference is held against the seeds that both sides ran."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from comparing import Row

from tasks.provenance.result import Result
from tasks.provenance.seeds import seeds_verdict
from tasks.provenance.verdict import compare_results

FIGURE = "perplexity/docs"


def side(*values: float, first: int = 0) -> Result:
    """A cell of the first seed, whose other seeds gave the other values."""
    seeds = {str(first + k): {FIGURE: value} for k, value in enumerate(values)}
    return replace(Row().result(values[0]), seeds=seeds)


@pytest.mark.parametrize(
    ("a", "b", "parts"),
    [
        # Apart by 1.0, 1.2 and 0.8: their standard error is 0.2 / √3.
        ((20, 30, 40), (21, 31.2, 40.8), ("+1 ± 0.12", "beyond two", "a difference, as far as 3")),
        ((20, 30, 40), (21, 28, 41), ("+0 ± 1", "within two", "no difference")),
        ((20, 30), (21, math.inf), ("diverged",)),
        ((20, 20), (20, 20.5), ("+0.25 ± 0.25", "within two")),
    ],
)
def test_the_difference_is_told_with_its_error(
    a: tuple[float, ...], b: tuple[float, ...], parts: tuple[str, ...]
) -> None:
    (told,) = seeds_verdict(side(*a), side(*b), (FIGURE, FIGURE))
    for part in parts:
        assert part in told
    assert told in compare_results(side(*a), side(*b), FIGURE).verdict


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (side(20), side(21)),  # one seed
        (side(20, 20), side(21, 21)),  # which changes neither
        (side(20, 30), side(21, 31, first=7)),  # none in common
        (side(20, 30), replace(side(20, 30), reference="the same cell")),
    ],
)
def test_nothing_is_told_where_seeds_tell_nothing(a: Result, b: Result) -> None:
    assert seeds_verdict(a, b, (FIGURE, FIGURE)) == ()
