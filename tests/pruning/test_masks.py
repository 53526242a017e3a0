"""Masks against brute force, and the properties that every mask has."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.pruning.core import masks
from tasks.pruning.core.refusals import UnsupportedLayerError
from tasks.pruning.core.targets import Fraction, SemiStructured


@st.composite
def scores(draw: st.DrawFn) -> torch.Tensor:
    """Matrices with many ties."""
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 24))
    values = draw(st.lists(st.integers(0, 6), min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(values, dtype=torch.float32).view(rows, columns)


def brute_force(row: list[float], count: int) -> list[bool]:
    order = sorted(range(len(row)), key=lambda index: (row[index], index))
    lowest = set(order[:count])
    return [index in lowest for index in range(len(row))]


@given(scores(), st.floats(0.01, 0.99))
@settings(max_examples=200, deadline=None)
def test_rows_match_a_sort_by_score_and_index(scores_OI: torch.Tensor, fraction: float) -> None:
    columns = scores_OI.shape[1]
    count = round(fraction * columns)
    mask = masks.lowest_per_row(scores_OI, fraction)
    if 0 < count < columns and abs(count / columns - fraction) <= masks.TOLERANCE:
        assert mask.tolist() == [brute_force(row, count) for row in scores_OI.tolist()]
        return
    # Rounded row by row it would miss the matrix's share: rows differ by one.
    counts = [sum(row) for row in mask.tolist()]
    assert sum(counts) == masks.count_of(fraction, scores_OI.numel())
    assert max(counts) - min(counts) <= 1
    for row, pruned, count in zip(scores_OI.tolist(), mask.tolist(), counts, strict=True):
        assert pruned == brute_force(row, count)


@given(scores(), st.floats(0.01, 0.99))
@settings(max_examples=100, deadline=None)
def test_the_matrix_matches_a_sort(scores_OI: torch.Tensor, fraction: float) -> None:
    flat = scores_OI.flatten().tolist()
    expected = brute_force(flat, min(round(fraction * len(flat)), len(flat) - 1))
    assert masks.lowest_of_matrix(scores_OI, fraction).flatten().tolist() == expected


@given(scores(), st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 4), (4, 8)]))
@settings(max_examples=200, deadline=None)
def test_groups_match_a_sort(scores_OI: torch.Tensor, kind: tuple[int, int]) -> None:
    keep, group = kind
    columns = scores_OI.shape[1] // group * group
    if columns == 0:
        return
    scores_OI = scores_OI[:, :columns].contiguous()
    mask = masks.lowest_of_groups(scores_OI, keep, group).reshape(-1, group)
    grouped = scores_OI.reshape(-1, group)
    # Which of equal scores goes is free; that no higher score goes before a lower one is not.
    for row, pruned in zip(grouped, mask, strict=True):
        assert int(pruned.sum()) == group - keep
        assert row[pruned].max() <= row[~pruned].min()


@given(scores(), st.floats(0.01, 0.99), st.integers(0, 6))
@settings(max_examples=200, deadline=None)
def test_what_is_zero_already_is_part_of_the_count(
    scores_OI: torch.Tensor, fraction: float, below: int
) -> None:
    zero_OI = scores_OI < below
    scores_OI = scores_OI.masked_fill(zero_OI, 0)
    mask = masks.lowest_per_row(scores_OI, fraction, zero_OI)
    zeros, wanted = int(zero_OI.sum()), fraction * scores_OI.numel()
    reached = int((mask | zero_OI).sum())
    slack = max(1.0, masks.TOLERANCE * scores_OI.numel()) + 1e-9
    assert reached == zeros or abs(reached - wanted) <= slack
    for row, pruned, zero in zip(scores_OI, mask, zero_OI, strict=True):
        kept = ~pruned & ~zero
        if kept.any() and (pruned & ~zero).any():
            assert row[pruned & ~zero].max() <= row[kept].min()


@pytest.mark.parametrize(("fraction", "columns"), [(0.999, 96), (0.001, 96), (0.9999, 64)])
def test_rows_are_neither_emptied_nor_left_whole_by_rounding(fraction: float, columns: int) -> None:
    scores_OI = torch.rand(64, columns, generator=torch.Generator().manual_seed(0))
    mask = masks.lowest_per_row(scores_OI, fraction)
    assert int(mask.sum()) == min(round(fraction * mask.numel()), mask.numel() - 1)
    assert not mask.all()
    assert int(masks.lowest_of_matrix(scores_OI, fraction).sum()) == int(mask.sum())


def test_rows_that_are_zero_already_spare_the_others() -> None:
    scores_OI = torch.rand(10, 40, generator=torch.Generator().manual_seed(0)) + 0.1
    zero_OI = torch.zeros_like(scores_OI, dtype=torch.bool)
    zero_OI[:4] = True
    mask = masks.lowest_per_row(scores_OI.masked_fill(zero_OI, 0), 0.5, zero_OI)
    assert mask[:4].all()
    assert int(mask.sum()) == 200
    assert set(mask[4:].sum(dim=1).tolist()) == {6, 7}
    assert torch.equal(masks.lowest_per_row(scores_OI, 0.3, zero_OI), zero_OI), "more are there"


def test_equal_scores_lose_as_much_in_every_row() -> None:
    mask = masks.lowest_by_count(torch.ones(6, 10), 27)
    assert int(mask.sum()) == 27
    assert set(mask.sum(dim=1).tolist()) == {4, 5}


def test_a_higher_fraction_prunes_a_superset() -> None:
    scores_OI = torch.rand(8, 40, generator=torch.Generator().manual_seed(0))
    lower, higher = (masks.lowest_per_row(scores_OI, fraction) for fraction in (0.3, 0.6))
    assert bool((higher | ~lower).all())


def test_scale_and_sign_of_a_row_do_not_matter_to_rows() -> None:
    scores_OI = torch.rand(4, 32, generator=torch.Generator().manual_seed(0))
    scaled = scores_OI * torch.tensor([[1e-3], [1.0], [10.0], [1e4]])
    assert torch.equal(masks.lowest_per_row(scores_OI, 0.5), masks.lowest_per_row(scaled, 0.5))


def test_nan_is_an_error_and_infinity_is_the_highest() -> None:
    bad = torch.tensor([[1.0, float("nan"), 2.0, 3.0]])
    for call in (lambda: masks.lowest_per_row(bad, 0.5), lambda: masks.lowest_of_groups(bad, 2, 4)):
        with pytest.raises(ValueError, match="NaN"):
            call()
    high = torch.tensor([[1.0, float("inf"), 2.0, 3.0]])
    assert masks.lowest_per_row(high, 0.75).tolist() == [[True, False, True, True]]


def test_groups_must_divide_the_columns() -> None:
    with pytest.raises(UnsupportedLayerError, match="divisible by 4; this layer has 6"):
        masks.lowest_of_groups(torch.rand(2, 6), 2, 4)


def test_lowest_dispatches_on_the_target() -> None:
    scores_OI = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
    by_layer = masks.lowest(scores_OI, Fraction(0.5), across="layer")
    assert by_layer.tolist() == [[True] * 4, [False] * 4]
    by_row = masks.lowest(scores_OI, Fraction(0.5))
    assert by_row.sum(dim=1).tolist() == [2, 2]
    assert torch.equal(masks.lowest(scores_OI, SemiStructured(2, 4)), by_row)


def test_ranks_count_what_goes_before_and_ties_go_in_order() -> None:
    scores_NG = torch.randint(3, (500, 5), generator=torch.Generator().manual_seed(0)).float()
    order = scores_NG.sort(dim=1, stable=True).indices
    expected = torch.empty_like(order).scatter_(1, order, torch.arange(5).expand(500, 5))
    assert masks.ranks_in_groups(scores_NG).long().equal(expected)
