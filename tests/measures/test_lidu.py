"""LiDu's properties, against its definition by hand, and the rank statistics against SciPy's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tasks.measures.uncertainty.lidu import FORMS, LOG_2, estimators, lidu, margin
from tasks.measures.uncertainty.ranks import (
    auroc,
    interval,
    kendall,
    partial_spearman,
    ranks,
    spearman,
)

MEANS = [form for form in FORMS if form != "later_sum"]
EXACT = 1e-12


def drawn(samples: int = 6, items: int = 9, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(items, generator=generator, dtype=torch.float64)
    noise = torch.randn(samples, items, generator=generator, dtype=torch.float64)
    return means + 0.7 * noise


def value(scores: Tensor, k: int = 3, **how: Any) -> float:
    return float(lidu(scores, k, **how).values)


def by_hand(scores: Tensor, k: int, form: str, *, paired: bool) -> float:
    """The definition, pair by pair, in plain Python."""
    columns = sorted(scores.T.tolist(), key=lambda column: -sum(column))
    pairs = {
        "adjacent": [(i, i + 1) for i in range(k)],
        "boundary": [(k - 1, j) for j in range(k, len(columns))],
    }.get(form, [(i, j) for i in range(k) for j in range(i + 1, len(columns))])

    def variance(values: list[float]) -> float:
        mean = sum(values) / len(values)
        return sum((v - mean) ** 2 for v in values) / (len(values) - 1)

    total = 0.0
    for i, j in pairs:
        gaps = [a - b for a, b in zip(columns[i], columns[j], strict=True)]
        spread = variance(gaps) if paired else variance(columns[i]) + variance(columns[j])
        z = sum(gaps) / len(gaps) / math.sqrt(spread)
        total -= math.log(0.5 * math.erfc(-z / math.sqrt(2)))
    return total / (k if form == "later_sum" else len(pairs))


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("form", FORMS)
class TestForms:
    def test_definition(self, form: Any, paired: bool) -> None:
        for k in (1, 3, 8):
            wanted = by_hand(drawn(), k, form, paired=paired)
            assert value(drawn(), k, form=form, paired=paired) == pytest.approx(wanted, rel=1e-9)

    def test_separation_is_certain(self, form: Any, paired: bool) -> None:
        far = drawn() * 1e-3 + 1e3 * torch.arange(9.0, dtype=torch.float64)
        assert value(far, form=form, paired=paired) == 0

    def test_scale_and_shift(self, form: Any, paired: bool) -> None:
        plain = value(drawn(), form=form, paired=paired)
        for scale, shift in ((7.0, 0.0), (1e-6, 0.0), (1.0, 3.5), (0.01, -8.0)):
            moved = value(scale * drawn() + shift, form=form, paired=paired)
            assert moved == pytest.approx(plain, rel=EXACT, abs=EXACT)

    def test_doubled_deviations_raise_it(self, form: Any, paired: bool) -> None:
        for seed in range(20):
            scores = drawn(seed=seed)
            wider = scores.mean(0) + 2 * (scores - scores.mean(0))
            assert value(wider, form=form, paired=paired) > value(scores, form=form, paired=paired)

    def test_lists_together_are_lists_alone(self, form: Any, paired: bool) -> None:
        several = torch.stack([drawn(seed=seed) for seed in range(4)])
        together = lidu(several, 3, form=form, paired=paired).values
        alone = [value(scores, form=form, paired=paired) for scores in several]
        assert together.tolist() == pytest.approx(alone, rel=EXACT)


@pytest.mark.parametrize("form", MEANS)
@pytest.mark.parametrize("paired", [True, False])
def test_equal_means_are_log_2(form: Any, paired: bool) -> None:
    scores = drawn()
    scores -= scores.mean(0)
    assert value(scores, form=form, paired=paired) == pytest.approx(LOG_2, abs=EXACT)
    assert value(torch.ones(3, 4), form=form, paired=paired) == pytest.approx(LOG_2, abs=EXACT)


@pytest.mark.parametrize("form", FORMS)
def test_a_shift_of_each_sample_is_nothing_where_they_are_paired(form: Any) -> None:
    shifts = torch.tensor([[0.3], [-2.0], [5.0], [0.0], [1.0], [9.0]], dtype=torch.float64)
    plain, moved = drawn(), drawn() + shifts
    assert value(moved, form=form) == pytest.approx(value(plain, form=form), abs=EXACT)
    softmax = plain.log_softmax(-1)
    assert value(softmax, form=form) == pytest.approx(value(plain, form=form), abs=EXACT)
    assert value(moved, form=form, paired=False) != pytest.approx(
        value(plain, form=form, paired=False), abs=1e-3
    )


def test_later_sum_grows_with_the_list_and_later_does_not() -> None:
    short = torch.zeros(2, 5, dtype=torch.float64)
    short[0] += 1e-3
    long = torch.cat([short, short], dim=1)
    assert value(short, 2, form="later_sum") == pytest.approx(3.5 * LOG_2)
    assert value(long, 2, form="later_sum") == pytest.approx(8.5 * LOG_2)
    assert value(short, 2) == pytest.approx(value(long, 2))


def test_what_has_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="1 sample of the scores has no spread"):
        lidu(drawn(samples=1), 1)
    with pytest.raises(ValueError, match="1 item has no order"):
        lidu(drawn(items=1), 1)
    with pytest.raises(ValueError, match="k must be at least 1"):
        lidu(drawn(), 0)
    with pytest.raises(ValueError, match="not finite"):
        lidu(drawn().index_fill(0, torch.tensor(2), math.inf), 1)


def test_k_is_clipped_and_reported() -> None:
    full, more = lidu(drawn(), 8), lidu(drawn(), 30)
    assert (full.k, full.clipped, more.k, more.clipped) == (8, False, 8, True)
    assert float(full.values) == float(more.values)


def test_far_tails_stay_finite() -> None:
    apart = torch.tensor([[0.0, 90.0], [1.0, 0.0], [1.0, 0.0]])
    assert math.isfinite(value(apart, 1))
    assert 0 < value(torch.tensor([[9.0, 0.0], [10.0, 0.0]]), 1) < 1e-20


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(2, 7), st.integers(0, 10_000), st.integers(1, 8))
def test_it_is_between_0_and_log_2_of_a_list_in_the_means_order(
    samples: int, items: int, seed: int, k: int
) -> None:
    for form in MEANS:
        assert 0 <= value(drawn(samples, items, seed), k, form=form) <= LOG_2 + EXACT


def test_estimators_by_hand() -> None:
    scores = torch.tensor([[3.0, 1.0, 0.0, 2.0], [5.0, 1.0, 0.0, -2.0]])
    found = {name: float(v) for name, v in estimators(scores, 2).items()}
    assert found["maximum"] == 4
    assert found["mean_top"] == 2.5
    assert found["margin"] == float(margin(scores)) == 3
    assert found["std_top"] == pytest.approx(math.sqrt(2) / 2)
    assert found["std_all"] == pytest.approx((math.sqrt(2) + math.sqrt(8)) / 4)
    assert found["overlap"] == 0.75
    assert found["spread"] == pytest.approx((2.5 - 1.25) / math.sqrt(2.6875))
    exps = [math.exp(v) for v in (4, 1, 0, 0)]
    shares = [e / sum(exps) for e in exps]
    assert found["entropy"] == pytest.approx(-sum(p * math.log(p) for p in shares))


class TestRanks:
    A = (3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0)
    B = (2.0, 7.0, 1.0, 8.0, 2.0, 8.0, 1.0, 8.0, 2.0)
    C = (1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 1.0, 3.0, 2.0)

    def test_scipy_s(self) -> None:
        stats = pytest.importorskip("scipy.stats")
        a, b, c = self.A, self.B, self.C
        assert ranks(torch.tensor(a)).tolist() == stats.rankdata(a).tolist()
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
        assert kendall(a, b) == pytest.approx(stats.kendalltau(a, b).statistic)
        # Partial: the correlation of what a line through the control's ranks leaves.
        rank_a, rank_b, rank_c = (stats.rankdata(x) for x in (a, b, c))

        def left(rank: Any) -> Any:
            line = stats.linregress(rank_c, rank)
            return rank - line.slope * rank_c - line.intercept

        wanted = stats.pearsonr(left(rank_a), left(rank_b)).statistic
        assert partial_spearman(a, b, c) == pytest.approx(wanted)

    def test_auroc_by_hand(self) -> None:
        right = [True, False, True, False]
        assert auroc([0.9, 0.1, 0.5, 0.5], right) == pytest.approx(3.5 / 4)
        assert auroc([1.0, 2.0], [True, True]) is None

    def test_nothing_to_tell(self) -> None:
        assert spearman([1.0, 1.0], [1.0, 2.0]) is None
        assert kendall([1.0, 1.0], [1.0, 2.0]) is None
        assert spearman([1.0], [2.0]) is None
        assert partial_spearman(self.A, self.B, [1.0] * 9) == spearman(self.A, self.B)
        assert partial_spearman(self.A, self.B, self.A) == 0
        assert interval(spearman, [1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None

    def test_the_interval_holds_the_truth_about_as_often_as_it_says(self) -> None:
        """Pairs of normals with correlation 0.6, whose Spearman is 6/π · asin(0.3)."""
        truth, inside = 6 / math.pi * math.asin(0.3), 0
        generator = torch.Generator().manual_seed(0)
        for _ in range(60):
            x, noise = torch.randn(2, 40, generator=generator)
            y = 0.6 * x + 0.8 * noise
            bounds = interval(spearman, x, y, resamples=200)
            assert bounds is not None
            inside += bounds[0] <= truth <= bounds[1]
        assert inside >= 50

    def test_it_is_seeded(self) -> None:
        assert interval(spearman, self.A, self.B) == interval(spearman, self.A, self.B)
        assert interval(spearman, self.A, self.B) != interval(spearman, self.A, self.B, seed=1)
