"""Where windows begin: contiguous, random and spread, and how seats are shared out."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.selection.positions import contiguous, evenly, random, shares, spread


def test_contiguous_windows_follow_each_other() -> None:
    assert contiguous(5, 3).tolist() == [0, 5, 10]


def test_random_windows_fit_and_follow_their_seed() -> None:
    first = random(100, 8, 50, seed=1)
    assert first.min() >= 0
    assert first.max() <= 92
    assert first.tolist() == random(100, 8, 50, seed=1).tolist()
    assert first.tolist() != random(100, 8, 50, seed=2).tolist()


def test_spread_takes_the_middle_of_equal_stretches() -> None:
    # 12 full windows in three stretches of four: windows 2, 6 and 10.
    assert spread(12 * 7 + 3, 7, 3).tolist() == [14, 42, 70]
    assert spread(35, 7, 5).tolist() == contiguous(7, 5).tolist()


def test_spread_over_too_little_text_is_refused() -> None:
    with pytest.raises(ValueError, match=r"6 of 5 .* at most 5"):
        spread(35, 7, 6)


@given(st.integers(1, 500), st.data())
def test_evenly_spaced_indices_differ_and_lie_inside(available: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, available))
    found = evenly(available, count).tolist()
    assert sorted(set(found)) == found
    assert len(found) == count
    assert found[0] >= 0
    assert found[-1] < available
    gaps = {b - a for a, b in pairwise(found)}
    assert not gaps or max(gaps) - min(gaps) <= 1


@given(st.lists(st.integers(1, 200), min_size=1, max_size=30), st.data())
def test_shares_sum_and_follow_the_sizes(sizes: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(1, sum(sizes)))
    found = shares(sizes, total, sizes)
    quotas = [total * size / sum(sizes) for size in sizes]
    assert sum(found) == total
    assert all(0 <= got <= size for got, size in zip(found, sizes, strict=True))
    if total >= len(sizes):
        assert min(found) >= 1
    served = sum(quota >= 0.5 for quota in quotas)
    if total >= served:
        starved = [q for q, got in zip(quotas, found, strict=True) if q >= 0.5 and not got]
        assert not starved


def test_shares_are_the_quotas_where_these_are_whole() -> None:
    assert shares([90, 10], 10, [90, 10]) == [9, 1]
    assert shares([98, 1, 1], 3, [98, 1, 1]) == [1, 1, 1]
    assert shares([1.0, 1.0], 10, [3, 90]) == [3, 7]


def test_more_seats_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="7 are asked for, and there are 5"):
        shares([1.0, 1.0], 7, [3, 2])
