"""The estimator against exact enumeration, the projection against its definition."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tasks.pruning.policy_gradient import bernoulli

SCORES = torch.tensor([0.3, 0.8, 0.55, 0.1, 0.95], dtype=torch.float64)


def loss_of(mask_V: Tensor) -> Tensor:
    """An arbitrary function of a mask that is not additive in its variables."""
    weights = torch.linspace(-1.0, 2.0, mask_V.shape[-1], dtype=mask_V.dtype)
    return (mask_V @ weights).sin() + 0.7 * mask_V[..., 0] * mask_V[..., -1] + 3.0


def all_masks(variables: int) -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=variables)), dtype=torch.float64)


def probability(masks_KV: Tensor, scores_V: Tensor) -> Tensor:
    return torch.where(masks_KV == 1, scores_V, 1 - scores_V).prod(dim=1)


def exact_gradient(scores_V: Tensor) -> Tensor:
    """∂E[loss]/∂s from the sum over all masks, by autograd in float64."""
    scores_V = scores_V.clone().requires_grad_()
    masks_KV = all_masks(len(scores_V))
    (probability(masks_KV, scores_V) * loss_of(masks_KV)).sum().backward()
    assert scores_V.grad is not None
    return scores_V.grad


@pytest.mark.parametrize("estimator", ["score", "normalised"])
@pytest.mark.parametrize("baseline", [0.0, 2.5])
def test_mean_estimate_is_the_exact_gradient(estimator: str, baseline: float) -> None:
    """Over every pair of masks, weighted by its probability, with a baseline that is constant."""
    masks_KV = all_masks(len(SCORES))
    p_K, losses_K = probability(masks_KV, SCORES), loss_of(masks_KV)
    mean = torch.zeros_like(SCORES)
    # One draw of K = 1 would divide by zero as the authors do: take K = 2 with equal masks.
    for p, loss, mask_V in zip(p_K, losses_K, masks_KV, strict=True):
        pair, same = torch.stack([mask_V, mask_V]), torch.stack([loss, loss])
        flat = torch.full_like(same, baseline)
        mean += p * bernoulli.gradient(same, flat, pair, SCORES, estimator)
    spread = (SCORES * (1 - SCORES)).sqrt()
    documented = exact_gradient(SCORES) * (spread * 2 if estimator == "normalised" else 1.0)
    assert torch.allclose(mean, documented, atol=1e-5)


@pytest.mark.parametrize("estimator", ["score", "normalised"])
def test_leave_one_out_is_unbiased(estimator: str) -> None:
    """Over every pair of independent masks: K − 1 = 1, K = 2."""
    masks_KV = all_masks(len(SCORES))
    p_K, losses_K = probability(masks_KV, SCORES), loss_of(masks_KV)
    mean = torch.zeros_like(SCORES)
    for (p, a, m), (q, b, n) in itertools.product(
        zip(p_K, losses_K, masks_KV, strict=True), repeat=2
    ):
        losses = torch.stack([a, b])
        baseline = bernoulli.LeaveOneOut().update(losses)
        mean += p * q * bernoulli.gradient(losses, baseline, torch.stack([m, n]), SCORES, estimator)
    spread = (SCORES * (1 - SCORES)).sqrt()
    documented = exact_gradient(SCORES) * (spread * 2 if estimator == "normalised" else 1.0)
    assert torch.allclose(mean, documented, atol=1e-5)


@pytest.mark.parametrize("antithetic", [False, True])
def test_drawn_masks_have_the_scores_as_means(antithetic: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    masks_KV = bernoulli.draw(SCORES.float(), 20_000, generator, antithetic=antithetic)
    assert set(masks_KV.unique().tolist()) == {0.0, 1.0}
    assert torch.allclose(masks_KV.mean(dim=0), SCORES.float(), atol=0.015)


def test_antithetic_masks_oppose_each_other() -> None:
    generator = torch.Generator().manual_seed(0)
    masks_KV = bernoulli.draw(torch.full((1,), 0.5), 10, generator, antithetic=True)
    assert torch.equal(masks_KV[0::2] + masks_KV[1::2], torch.ones(5, 1))
    assert bernoulli.draw(torch.full((3,), 0.5), 5, generator, antithetic=True).shape == (5, 3)


@given(
    st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=30),
    st.floats(0.05, 1.0),
    st.sampled_from([0.0, 1e-3, 0.04]),
)
def test_projection_meets_its_budget(values: list[float], share: float, floor: float) -> None:
    scores_V = torch.tensor(values)
    budget = share * len(values)
    projected_V = bernoulli.project(scores_V, budget, floor)
    assert projected_V.min() >= floor and projected_V.max() <= 1 - floor
    total = float(projected_V.double().sum())
    assert total <= budget + 1e-5
    clamped_V = scores_V.clamp(floor, 1 - floor)
    if float(clamped_V.double().sum()) <= budget:
        assert torch.equal(projected_V, clamped_V)
    else:
        assert total == pytest.approx(budget, abs=1e-4 * len(values))


def test_projection_is_the_nearest_point() -> None:
    """No random feasible point is nearer."""
    generator = torch.Generator().manual_seed(0)
    scores_V = torch.rand(6, generator=generator, dtype=torch.float64) * 2 - 0.3
    projected_V = bernoulli.project(scores_V, 2.0, 0.0)
    distance = (projected_V - scores_V).norm()
    feasible = torch.rand(200_000, 6, generator=generator, dtype=torch.float64)
    feasible = feasible[feasible.sum(dim=1) <= 2.0]
    assert len(feasible) > 1000
    assert (feasible - scores_V).norm(dim=1).min() >= distance - 1e-9


def test_projection_says_when_the_floor_is_too_high() -> None:
    with pytest.raises(ValueError, match="exceed"):
        bernoulli.project(torch.ones(10), 0.5, 0.1)


def test_moving_average_follows_the_papers_recurrence() -> None:
    baseline = bernoulli.MovingAverage()
    assert baseline.update(torch.tensor([2.0, 4.0])).tolist() == [3.0, 3.0]
    expected = 3.0 * (1 - 1 / 5) + 8.0 / 5
    assert baseline.update(torch.tensor([8.0])).tolist() == pytest.approx([expected])


def test_one_mask_moves_nothing_under_leave_one_out() -> None:
    losses = torch.tensor([3.0])
    baseline = bernoulli.LeaveOneOut().update(losses)
    gradient = bernoulli.gradient(
        losses, baseline, torch.ones(1, 2), torch.full((2,), 0.5), "score"
    )
    assert torch.equal(gradient, torch.zeros(2))


def test_learning_rate_is_a_cosine() -> None:
    assert bernoulli.decayed(0.4, 0, 10) == 0.4
    assert bernoulli.decayed(0.4, 5, 10) == pytest.approx(0.2)
    assert bernoulli.decayed(0.4, 10, 10) == pytest.approx(0.0, abs=1e-12)
    assert bernoulli.decayed(1.0, 1, 3) == pytest.approx(0.5 * (1 + math.cos(math.pi / 3)))


def test_ties_do_not_overshoot_the_budget() -> None:
    kept = bernoulli.keep_highest(
        torch.full((3, 5), 0.5), torch.ones(3, 5, dtype=torch.long), 7, across_layers=True
    )
    assert int(kept.sum()) == 7
    assert kept.any(dim=1).all(), "a layer lost everything"


@given(st.integers(0, 10_000), st.floats(0.05, 0.95))
def test_the_choice_is_exact_and_the_highest(seed: int, keep: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores_LV = torch.rand(4, 9, generator=generator)
    budget = max(4, round(keep * 36))
    kept = bernoulli.keep_highest(
        scores_LV, torch.ones(4, 9, dtype=torch.long), budget, across_layers=True
    )
    assert int(kept.sum()) == budget
    best_LV = scores_LV == scores_LV.amax(dim=1, keepdim=True)
    assert kept[best_LV].all()
    dropped = scores_LV[~kept]
    if len(dropped) and (kept & ~best_LV).any():
        assert scores_LV[kept & ~best_LV].min() >= dropped.max()


def test_groups_that_do_not_fit_stay_out() -> None:
    sizes = torch.tensor([[4, 4, 1]])
    kept = bernoulli.keep_highest(torch.tensor([[0.9, 0.8, 0.1]]), sizes, 5, across_layers=True)
    assert kept.tolist() == [[True, False, True]]
    padded = bernoulli.keep_highest(
        torch.tensor([[0.9, 0.8]]), torch.tensor([[4, 0]]), 8, across_layers=False
    )
    assert padded.tolist() == [[True, False]]
