"""Each method's own theorem."""

from __future__ import annotations

import pytest
import torch

from tasks.pruning.core.registry import methods, register
from tasks.pruning.core.statistics import ColumnStatistics
from tasks.pruning.core.targets import Fraction, SemiStructured, Target
from tasks.pruning.magnitude import Magnitude
from tasks.pruning.swiftprune.method import SwiftPrune, scanned
from tasks.pruning.wanda import Wanda

PAPER = SwiftPrune(selection="exact")


def statistics(energy: torch.Tensor) -> ColumnStatistics:
    """Statistics with the given column energies, spread over 4 windows of 8 tokens."""
    return ColumnStatistics(
        first_sum_I=torch.zeros_like(energy),
        first_energy_I=energy / 8,
        rest_sum_I=torch.zeros_like(energy),
        rest_energy_I=energy * 7 / 8,
        windows=4,
        tokens=32,
    )


def pruned(
    method: SwiftPrune | Magnitude, weight: torch.Tensor, energy: torch.Tensor, target: Target
) -> torch.Tensor:
    return method.prune_layer(weight, statistics(energy), target, torch.Generator().manual_seed(0))


def weight_of(seed: int = 0) -> torch.Tensor:
    return torch.randn(16, 32, generator=torch.Generator().manual_seed(seed))


def test_swiftprune_with_equal_energies_is_magnitude_pruning() -> None:
    """METHODS.md's test: equal column energies reproduce magnitude pruning exactly."""
    weight, energy = weight_of(), torch.full((32,), 3.0)
    for target in (Fraction(0.5), Fraction(0.3), SemiStructured(2, 4)):
        for contribution in ("weight", "output"):
            method = SwiftPrune(contribution=contribution, selection="exact")
            expected = pruned(Magnitude(compare="row"), weight, energy, target)
            assert torch.equal(pruned(method, weight, energy, target), expected)


def test_the_papers_score_is_the_obs_loss_under_a_rank_one_hessian() -> None:
    """w²/[H⁻¹]_ii of H = xxᵀ + λI with small λ orders weights as the closed form does."""
    weight = weight_of().double()
    inputs = torch.rand(32, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
    damping = 1e-6
    hessian = torch.outer(inputs, inputs) + damping * torch.eye(32, dtype=torch.float64)
    obs = weight.square() / torch.linalg.inv(hessian).diagonal()
    closed = PAPER.losses(weight.float(), statistics(inputs.square().float()))
    ratio = closed.double() / obs
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=0)


def test_the_output_score_weighs_with_the_energy() -> None:
    weight, energy = weight_of(), torch.linspace(0.1, 4.0, 32)
    output = SwiftPrune(contribution="output").losses(weight, statistics(energy))
    paper = SwiftPrune(contribution="weight").losses(weight, statistics(energy))
    torch.testing.assert_close(output, paper * energy)


def test_one_column_with_all_energy_is_kept_and_finite() -> None:
    energy = torch.zeros(32)
    energy[5] = 7.0
    for contribution in ("output", "weight"):
        method = SwiftPrune(contribution=contribution)
        losses = method.losses(weight_of(), statistics(energy))
        assert torch.isfinite(losses).all()
        result = pruned(method, weight_of(), energy, Fraction(0.5))
        assert result[:, 5].ne(0).all()


def test_dead_inputs_do_not_divide_by_zero() -> None:
    for contribution in ("output", "weight"):
        method = SwiftPrune(contribution=contribution)
        result = pruned(method, weight_of(), torch.zeros(32), SemiStructured(2, 4))
        assert torch.isfinite(result).all()


def test_roots_of_the_losses_are_exact() -> None:
    losses = torch.tensor([[0.0, 16.0, 81.0]])
    torch.testing.assert_close(scanned(losses, "fourth-root"), torch.tensor([[0.0, 2.0, 3.0]]))
    assert torch.equal(scanned(losses, "loss"), losses)


def test_wanda_on_equal_norms_is_magnitude_by_row() -> None:
    weight = weight_of()
    collector = Wanda().collector(32, torch.device("cpu"))
    signs = torch.randint(0, 2, (4, 8, 32), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    collector.add(signs)
    result = Wanda().prune_layer(weight, collector, Fraction(0.5), torch.Generator())
    expected = pruned(Magnitude(compare="row"), weight, torch.ones(32), Fraction(0.5))
    assert torch.equal(result, expected)


def test_magnitude_by_layer_and_by_row_differ_where_rows_differ() -> None:
    weight = weight_of() * torch.logspace(-2, 2, 16)[:, None]
    by_layer = pruned(Magnitude(), weight, torch.ones(32), Fraction(0.5))
    by_row = pruned(Magnitude(compare="row"), weight, torch.ones(32), Fraction(0.5))
    assert by_row.eq(0).sum(dim=1).eq(16).all()
    assert by_layer[0].eq(0).all()
    assert by_layer[-1].ne(0).all()
    assert by_layer.eq(0).sum() == by_row.eq(0).sum()


def test_another_class_of_a_methods_name_is_refused() -> None:
    """Two packages may call a class alike: the second took the place of the first."""
    other = type("Magnitude", (), {"name": "magnitude", "__module__": "somebody_else"})
    with pytest.raises(ValueError, match="two pruning methods are called 'magnitude'"):
        register(other)  # type: ignore[type-var]
    assert methods()["magnitude"] is Magnitude
