"""Full OBS against dense float64 linear algebra."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tasks.pruning import full_obs
from tasks.pruning.core.hessian import inverse_factor
from tasks.pruning.core.registry import parse_target
from tasks.pruning.full_obs import FullOBS, compensated_, costs, shared_

CPU = torch.device("cpu")
COLUMNS = 12


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated(columns: int = COLUMNS, seed: int = 0) -> Tensor:
    """Inputs (N, L, I) whose columns differ in size and depend on each other."""
    mixing = random(columns, columns, seed=seed + 1000) + 2 * torch.eye(columns)
    return random(8, 32, columns, seed=seed) @ mixing * torch.linspace(0.2, 2, columns)


def hessian_of(inputs_NLI: Tensor, damping: float = 0.0) -> Tensor:
    """In float64."""
    inputs_TI = inputs_NLI.double().flatten(0, 1)
    hessian_II = 2 * inputs_TI.T @ inputs_TI / len(inputs_TI)
    identity_II = torch.eye(len(hessian_II), dtype=torch.float64)
    return hessian_II + damping * hessian_II.diagonal().mean() * identity_II


def pruned(
    method: FullOBS, weights: dict[str, Tensor], inputs_NLI: Tensor, target: str
) -> dict[str, Tensor]:
    collector = method.collector(inputs_NLI.shape[2], CPU)
    for batch in inputs_NLI.split(3):
        collector.add(batch)
    return method.prune_layers(weights, collector, parse_target(target), torch.Generator())


def by_brute_force(weight_OI: Tensor, inputs_NLI: Tensor, method: FullOBS, target: str) -> Tensor:
    """Row by row in float64: explicit inverses, the exact solution on what stays."""
    hessian_II = hessian_of(inputs_NLI, method.damping)
    share = 1 - parse_target(target).sparsity
    diagonal_I = hessian_II.diagonal()
    shared_II = share * hessian_II + (1 - share) * torch.diag(diagonal_I)
    losses_OI = weight_OI.double() ** 2 / torch.linalg.inv(shared_II).diagonal()
    result_OI = torch.zeros_like(weight_OI, dtype=torch.float64)
    for row, loss_I in enumerate(losses_OI):
        if target == "2:4":
            order = (
                loss_I.view(-1, 4).argsort(1)[:, 2:] + 4 * torch.arange(len(loss_I) // 4)[:, None]
            )
            kept = order.flatten().sort().values
        else:
            count = round(float(target) * len(loss_I))
            kept = loss_I.argsort()[count:].sort().values
        cross = hessian_II[kept] @ weight_OI[row].double()
        result_OI[row, kept] = torch.linalg.solve(hessian_II[kept][:, kept], cross)
    return result_OI


@pytest.mark.parametrize("target", ["0.5", "0.25", "2:4"])
@pytest.mark.parametrize("seed", range(4))
def test_solved_to_the_end_it_is_the_exact_optimum_on_the_weights_of_least_cost(
    target: str, seed: int
) -> None:
    weight_OI, inputs = random(9, COLUMNS, seed=seed), correlated(seed=seed)
    method = FullOBS(steps=60)
    found = pruned(method, {"a": weight_OI[:4], "b": weight_OI[4:]}, inputs, target)
    found_OI = torch.cat([found["a"], found["b"]])
    expected_OI = by_brute_force(weight_OI, inputs, method, target)
    assert torch.equal(found_OI == 0, expected_OI == 0)
    torch.testing.assert_close(found_OI.double(), expected_OI, rtol=2e-3, atol=2e-3)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1 << 20), steps=st.integers(0, 12), share=st.floats(0.1, 0.9))
def test_each_step_lowers_the_error_and_touches_no_pruned_weight(
    seed: int, steps: int, share: float
) -> None:
    weight_OI = random(5, COLUMNS, seed=seed)
    stays_OI = (
        torch.rand(5, COLUMNS, generator=torch.Generator().manual_seed(seed)) < share
    ).float()
    hessian_II = hessian_of(correlated(seed=seed), 0.01).float()

    def error(kept_OI: Tensor) -> Tensor:
        change_OI = (kept_OI - weight_OI).double()
        return ((change_OI @ hessian_II.double()) * change_OI).sum(1)

    fewer, more = (
        compensated_(weight_OI * stays_OI, weight_OI, stays_OI, hessian_II, count)
        for count in (steps, steps + 1)
    )
    assert (error(more) <= error(fewer) * (1 + 1e-4) + 1e-4).all()
    assert not more[stays_OI == 0].any()


def test_the_cost_is_obs_s_with_all_others_kept_and_the_own_energy_with_none() -> None:
    damped_II = hessian_of(correlated(), 0.01)
    alone_I = 1 / torch.linalg.inv(damped_II).diagonal()

    def cost(share: float) -> Tensor:
        factor = inverse_factor(shared_(hessian_of(correlated()).float(), share), 0.01)
        return costs(factor).double()

    torch.testing.assert_close(cost(1.0), alone_I, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(cost(0.0), damped_II.diagonal(), rtol=1e-3, atol=1e-6)
    assert (alone_I < cost(0.5)).all() and (cost(0.5) < damped_II.diagonal()).all()


@pytest.mark.parametrize("target", ["0.9", "0.5", "1:4"])
@pytest.mark.parametrize("rank", [1, 4, COLUMNS])
def test_more_steps_than_a_row_has_weights_do_no_harm(rank: int, target: str) -> None:
    weight_OI = random(16, COLUMNS, seed=3)
    inputs = random(8, 32, rank) @ random(rank, COLUMNS, seed=1) * torch.logspace(-1, 1, COLUMNS)
    hessian_II = hessian_of(inputs)

    def error(steps: int) -> float:
        change_OI = pruned(FullOBS(steps=steps), {"a": weight_OI}, inputs, target)["a"] - weight_OI
        return float(((change_OI.double() @ hessian_II) * change_OI.double()).sum())

    assert error(1024) <= error(16) * 1.001 + 1e-9


def test_inputs_that_are_all_zero_leave_the_largest_weights_as_they_are() -> None:
    weight_OI = random(3, COLUMNS)
    method = FullOBS(rescale=0.0)
    found_OI = pruned(method, {"a": weight_OI}, torch.zeros(2, 4, COLUMNS), "0.5")["a"]
    order_OI = weight_OI.abs().argsort(1).argsort(1)
    torch.testing.assert_close(found_OI, weight_OI * (order_OI >= COLUMNS // 2))


def test_a_hessian_that_had_to_be_damped_more_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    method = FullOBS()
    collector = method.collector(COLUMNS, CPU)
    collector.add(correlated())
    assert collector.figures() == {"hessians_damped_more": 0.0}
    monkeypatch.setattr(full_obs, "inverse_factor", lambda h, d: inverse_factor(h, 10 * d))
    target = parse_target("0.5")
    with pytest.warns(RuntimeWarning, match="0.1 was used"):
        method.prune_layers({"a": random(3, COLUMNS)}, collector, target, torch.Generator())
    assert collector.figures() == {"hessians_damped_more": 1.0}


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    weight_OI, inputs = random(3, COLUMNS), correlated()
    with pytest.raises(ValueError, match="weights are not finite"):
        pruned(FullOBS(), {"a": weight_OI.index_fill(1, torch.tensor([2]), bad)}, inputs, "0.5")
    inputs[0, 0, 0] = bad
    with pytest.raises(ValueError, match="inputs on the calibration windows are not finite"):
        pruned(FullOBS(), {"a": weight_OI}, inputs, "0.5")
