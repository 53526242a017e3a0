"""The sketched Hessian and its closed forms against dense float64 linear algebra."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import Tensor

from tasks.pruning.core import driver
from tasks.pruning.core.energy import rescaled
from tasks.pruning.core.statistics import ColumnCollector, ColumnStatistics
from tasks.pruning.core.targets import Fraction, SemiStructured
from tasks.pruning.sketched_obs.hessian import LowRankHessian, low_rank_hessian
from tasks.pruning.sketched_obs.method import SketchedOBS
from tasks.pruning.sketched_obs.update import compensated_, saliency

COLUMNS = 12


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_hessian(columns: int = COLUMNS, rank: int = 3) -> LowRankHessian:
    diagonal_I = torch.rand(columns, generator=generator()) + 0.1
    return LowRankHessian(diagonal_I, torch.randn(columns, rank, generator=generator(1)))


def dense(matrix: LowRankHessian) -> Tensor:
    columns_IR = matrix.directions_IR.double()
    return torch.diag(matrix.diagonal_I.double()) + columns_IR @ columns_IR.T


def inputs_with_three_directions(windows: int = 40, length: int = 32, columns: int = 24) -> Tensor:
    """Correlated inputs of unequal columns; the first positions are large."""
    mixing_KI = torch.randn(3, columns, generator=generator(2))
    hidden = torch.randn(windows, length, 3, generator=generator(3)) @ mixing_KI
    hidden += 0.05 * torch.randn(windows, length, columns, generator=generator(4)) + 0.7
    hidden[:, 0] += 9
    return hidden * torch.logspace(-1, 1, columns)


def statistics_of(inputs_NLI: Tensor, sketch: int) -> ColumnStatistics:
    collector = ColumnCollector(inputs_NLI.shape[2], torch.device("cpu"), sketch)
    for part in inputs_NLI.split(7):
        collector.add(part)
    return collector.result()


def second_moments(inputs_NLI: Tensor, first_weight: float) -> Tensor:
    inputs = inputs_NLI.double()
    first_II = inputs[:, 0].T @ inputs[:, 0] / len(inputs)
    rest = inputs[:, 1:].flatten(0, 1)
    return (1 - first_weight) * rest.T @ rest / len(rest) + first_weight * first_II


def test_directions_of_low_rank_inputs_are_found_exactly() -> None:
    """Nyström is exact for a matrix of lower rank than the sketch: H is the second moments."""
    inputs = inputs_with_three_directions()
    inputs[:, 0] = inputs[:, 0].mean(dim=0)  # of first positions only the mean is modelled
    moments_II = second_moments(inputs, 0.05)
    scale_I = moments_II.diagonal().sqrt()
    errors = {}
    for directions in (0, 3):
        matrix = low_rank_hessian(statistics_of(inputs, 12), directions, 0.05, 0.0)
        off_II = (dense(matrix) - moments_II) / torch.outer(scale_I, scale_I)
        errors[directions] = float(off_II.abs().max())
        torch.testing.assert_close(
            dense(matrix).diagonal(), moments_II.diagonal(), rtol=1e-4, atol=1e-6
        )
    assert errors[3] < 0.01
    assert errors[0] > 0.2


def test_as_many_columns_as_inputs_give_all_covariances() -> None:
    inputs = inputs_with_three_directions(columns=10)
    inputs[:, 0] = inputs[:, 0].mean(dim=0)
    matrix = low_rank_hessian(statistics_of(inputs, 64), 10, 0.05, 0.0)
    moments_II = second_moments(inputs, 0.05)
    scale_I = moments_II.diagonal().sqrt()
    off_II = (dense(matrix) - moments_II) / torch.outer(scale_I, scale_I)
    assert float(off_II.abs().max()) < 2e-3


def test_more_directions_than_the_inputs_have_are_no_error() -> None:
    statistics = statistics_of(torch.zeros(3, 8, 6), 4)
    matrix = low_rank_hessian(statistics, 4, 0.05, 0.01)
    assert torch.isfinite(matrix.diagonal_I).all() and (matrix.diagonal_I > 0).all()
    assert torch.isfinite(saliency(matrix, 0.5)).all()


def test_inputs_that_are_not_finite_are_refused() -> None:
    inputs = torch.zeros(3, 8, 6)
    inputs[1, 2, 3] = torch.inf
    with pytest.raises(ValueError, match="not finite"):
        low_rank_hessian(statistics_of(inputs, 4), 4, 0.05, 0.01)


def test_with_all_others_kept_the_saliency_is_that_of_obs() -> None:
    matrix = random_hessian()
    expected_I = 1 / torch.linalg.inv(dense(matrix)).diagonal()
    torch.testing.assert_close(saliency(matrix, 1.0).double(), expected_I, rtol=1e-4, atol=1e-6)


def test_with_no_other_kept_the_saliency_is_the_columns_own_moment() -> None:
    matrix = random_hessian()
    torch.testing.assert_close(saliency(matrix, 0.0).double(), dense(matrix).diagonal())


def test_a_column_that_dominates_is_never_cheap() -> None:
    """Half of the others cannot make up for a column whose energy dwarfs theirs."""
    columns_IR = torch.full((COLUMNS, 1), 0.01)
    columns_IR[5] = 1000.0
    matrix = LowRankHessian(torch.full((COLUMNS,), 0.01), columns_IR)
    for kept_share in (0.01, 0.5, 0.99, 1.0):
        found_I = saliency(matrix, kept_share)
        assert (found_I > 0).all()
        assert int(found_I.argmax()) == 5


@pytest.mark.parametrize("steps", [5, 12])
def test_the_update_minimises_the_quadratic_loss(steps: int) -> None:
    """Rank + 1 steps of conjugate gradients solve each row's system."""
    matrix = random_hessian()
    weight_OI = torch.randn(7, COLUMNS, generator=generator(5))
    pruned_OI = torch.rand(7, COLUMNS, generator=generator(6)) < 0.5
    stays_OI = (~pruned_OI).float()
    result_OI = compensated_(weight_OI * stays_OI, weight_OI, stays_OI, matrix, 0.5, steps)
    hessian_II = dense(matrix)
    for row in range(7):
        kept, gone = ~pruned_OI[row], pruned_OI[row]
        cross = hessian_II[kept][:, gone] @ weight_OI[row, gone].double()
        change = torch.linalg.solve(hessian_II[kept][:, kept], cross)
        expected = weight_OI[row, kept].double() + change
        torch.testing.assert_close(result_OI[row, kept].double(), expected, rtol=1e-3, atol=1e-4)
    assert result_OI[pruned_OI].eq(0).all()


def test_full_rescaling_restores_the_energy_of_each_row() -> None:
    matrix = random_hessian()
    weight_OI = torch.randn(5, COLUMNS, generator=generator(7))
    weight_OI[2] = 0.1
    stays_OI = (weight_OI.abs() >= 0.7).float()
    result_OI = rescaled(weight_OI, stays_OI, matrix.diagonal_I, 1.0)
    energy_O = weight_OI.square() @ matrix.diagonal_I
    energy_O[2] = 0  # it lost everything
    torch.testing.assert_close(result_OI.square() @ matrix.diagonal_I, energy_O)


@pytest.mark.parametrize("size", [1e-24, 1e-18, 1.0, 1e18])
def test_rescaling_does_not_depend_on_the_size_of_the_inputs(size: float) -> None:
    weight_OI = torch.full((2, 8), 0.02)
    stays_OI = torch.tensor([1.0, 0.0]).repeat(2, 4)
    result_OI = rescaled(weight_OI, stays_OI, torch.full((8,), size), 1.0)
    torch.testing.assert_close(result_OI, weight_OI * 2**0.5 * stays_OI)


@pytest.mark.parametrize("part", [0.0, 0.75, 1.0])
def test_nothing_pruned_changes_nothing_and_all_pruned_is_zero(part: float) -> None:
    matrix = random_hessian()
    weight_OI = torch.randn(3, COLUMNS, generator=generator(8))
    for stays_OI in (torch.ones_like(weight_OI), torch.zeros_like(weight_OI)):
        kept_OI = rescaled(weight_OI, stays_OI, matrix.diagonal_I, part)
        result_OI = compensated_(kept_OI, weight_OI, stays_OI, matrix, 0.5, 4)
        torch.testing.assert_close(result_OI, weight_OI * stays_OI)


@pytest.mark.parametrize("target", [Fraction(0.5), SemiStructured(2, 4)], ids=str)
def test_directions_lower_the_error_of_the_outputs(target: Fraction | SemiStructured) -> None:
    """On inputs with covariances, under the true second moments and not under the model's."""
    inputs = inputs_with_three_directions()
    moments_II = second_moments(inputs, 0.05)
    weight_OI = torch.randn(30, 24, generator=generator(9)) / moments_II.diagonal().sqrt().float()
    errors = {}
    for directions in (0, 3):
        method = SketchedOBS(directions=directions, rescale=0.0, rescale_groups=0.0)
        statistics = statistics_of(inputs, 12)
        pruned_OI = method.prune_layer(weight_OI, statistics, target, generator())
        change_OI = (pruned_OI - weight_OI).double()
        errors[directions] = float(((change_OI @ moments_II) * change_OI).sum())
    assert errors[3] < 0.5 * errors[0]


def test_statistics_with_and_without_a_sketch_are_the_same_sums() -> None:
    decoder, tokens_NL = tiny.decoder("llama"), tiny.tokens()
    plain = driver.collect_statistics(decoder, tokens_NL)
    sketched = driver.collect_statistics(decoder, tokens_NL, sketch=8)
    for name, entry in plain.items():
        assert entry.sketch_IS is None
        assert sketched[name].sketch_IS is not None
        for sums, tensor in entry.tensors().items():
            assert torch.equal(tensor, getattr(sketched[name], sums))
    shared = [sketched[f"model.layers.0.self_attn.{name}_proj"] for name in "qkv"]
    assert shared[0] is shared[1] is shared[2]
