"""SLoRB's initial branch and its gradients."""

from __future__ import annotations

import pytest
import torch

from tasks.pruning.ast import slorb

OUT, IN = 6, 16


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kept() -> torch.Tensor:
    return torch.rand(OUT, IN, generator=torch.Generator().manual_seed(7)) < 0.5


def test_sums_of_pruned_weights_are_divided_by_the_group_and_not_their_count() -> None:
    weight = torch.ones(1, 8)
    mask = torch.tensor([[True, True, False, False, True, False, False, False]])
    assert slorb.initial_scale(weight, mask, 4).tolist() == [[2 / 4, 3 / 4]]
    assert slorb.initial_sum(8, 4, torch.device("cpu")).tolist() == [[1] * 4 + [0] * 4,
                                                                    [0] * 4 + [1] * 4]  # fmt: skip


@pytest.mark.parametrize("group", [4, 8, 16])
def test_masked_weight_and_branch_are_dense_for_inputs_constant_in_each_group(group: int) -> None:
    weight = random(OUT, IN)
    sums = slorb.initial_sum(IN, group, weight.device)
    scale = slorb.initial_scale(weight, kept(), group)
    inputs = random(5, IN // group, seed=1).repeat_interleave(group, dim=1)
    outputs = inputs @ (weight * kept()).T + (inputs @ sums.T) @ scale.T
    torch.testing.assert_close(outputs, inputs @ weight.T, rtol=1e-4, atol=1e-5)


def test_no_branch_of_the_same_groups_is_closer_to_the_pruned_part() -> None:
    weight = random(OUT, IN)
    sums, scale = slorb.initial_sum(IN, 4, weight.device), slorb.initial_scale(weight, kept(), 4)
    pruned = weight.masked_fill(kept(), 0)
    best = torch.linalg.lstsq(sums.T, pruned.T).solution.T
    torch.testing.assert_close(scale, best, rtol=1e-4, atol=1e-6)


def test_a_group_that_does_not_divide_the_inputs_leaves_a_smaller_last_one() -> None:
    sums = slorb.initial_sum(10, 4, torch.device("cpu"))
    assert sums.shape == (3, 10)
    assert sums.sum(dim=1).tolist() == [4, 4, 2]
    assert sums.sum(dim=0).eq(1).all()


def test_gradients_are_autograds() -> None:
    weight, inputs, outer = random(OUT, IN), random(9, IN, seed=1), random(9, OUT, seed=2)
    sums = random(4, IN, seed=3).requires_grad_()
    scale = random(OUT, 4, seed=4).requires_grad_()
    (((inputs @ weight.T) + (inputs @ sums.T) @ scale.T) * outer).sum().backward()
    whole = outer.T @ inputs
    by_sum, by_scale = slorb.gradients(whole, sums.detach(), scale.detach())
    torch.testing.assert_close(by_sum, sums.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(by_scale, scale.grad, rtol=1e-4, atol=1e-5)
