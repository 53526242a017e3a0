"""Masks against brute force, and the properties that every mask has."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.pruning.core import masks
from tasks.pruning.core.methods import UnsupportedLayerError
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
    count = round(fraction * scores_OI.shape[1])
    expected = [brute_force(row, count) for row in scores_OI.tolist()]
    assert masks.lowest_per_row(scores_OI, fraction).tolist() == expected


@given(scores(), st.floats(0.01, 0.99))
@settings(max_examples=100, deadline=None)
def test_the_matrix_matches_a_sort(scores_OI: torch.Tensor, fraction: float) -> None:
    flat = scores_OI.flatten().tolist()
    expected = brute_force(flat, round(fraction * len(flat)))
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
