"""The closed forms against dense float64 linear algebra."""

from __future__ import annotations

import pytest
import torch

from tasks.pruning.core.statistics import ColumnCollector
from tasks.pruning.swiftprune import low_rank
from tasks.pruning.swiftprune.low_rank import LowRankHessian


def random_hessian(columns: int = 12) -> LowRankHessian:
    generator = torch.Generator().manual_seed(0)
    diagonal = torch.rand(columns, generator=generator) + 0.1
    return LowRankHessian(diagonal, torch.randn(columns, 2, generator=generator))


def dense(matrix: LowRankHessian) -> torch.Tensor:
    means = matrix.means_IR.double()
    return torch.diag(matrix.diagonal_I.double()) + means @ means.T


def test_the_hessian_is_the_second_moment_but_for_the_covariances() -> None:
    """Diagonal: the weighted second moments, plus the ridge; off the diagonal: the means only."""
    inputs = torch.randn(5, 9, 6, generator=torch.Generator().manual_seed(0)) + 1.5
    inputs[:, 0] *= 20
    collector = ColumnCollector(6, torch.device("cpu"))
    collector.add(inputs[:2])
    collector.add(inputs[2:])
    matrix = low_rank.hessian(collector.result(), first_weight=1 / 9, ridge=0.0)
    flat = inputs.double().reshape(-1, 6)
    second = flat.T @ flat / len(flat)
    torch.testing.assert_close(dense(matrix).diagonal(), second.diagonal(), rtol=1e-5, atol=1e-5)
    first, rest = inputs.double()[:, 0].mean(0), inputs.double()[:, 1:].flatten(0, 1).mean(0)
    expected = torch.outer(first, first) / 9 + torch.outer(rest, rest) * 8 / 9
    off = ~torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(dense(matrix)[off], expected[off], rtol=1e-5, atol=1e-5)
    ridged = low_rank.hessian(collector.result(), first_weight=1 / 9, ridge=0.5)
    torch.testing.assert_close(
        ridged.diagonal_I, matrix.diagonal_I + 0.5 * matrix.diagonal_I.mean()
    )


def test_the_inverse_diagonal_is_that_of_the_dense_inverse() -> None:
    matrix = random_hessian()
    expected = torch.linalg.inv(dense(matrix)).diagonal().float()
    torch.testing.assert_close(low_rank.inverse_diagonal(matrix), expected, rtol=1e-5, atol=1e-7)


def test_the_update_minimises_the_quadratic_loss() -> None:
    matrix = random_hessian()
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(7, 12, generator=generator)
    pruned = torch.rand(7, 12, generator=generator) < 0.5
    result = low_rank.compensate(weight, pruned, matrix, rescale=0.0)
    hessian = dense(matrix)
    for row in range(7):
        kept, gone = ~pruned[row], pruned[row]
        cross = hessian[kept][:, gone] @ weight[row, gone].double()
        change = torch.linalg.solve(hessian[kept][:, kept], cross)
        expected = weight[row, kept].double() + change
        torch.testing.assert_close(result[row, kept].double(), expected, rtol=1e-4, atol=1e-5)
    assert result[pruned].eq(0).all()


def test_the_update_never_makes_the_loss_worse() -> None:
    matrix = random_hessian()
    weight = torch.randn(20, 12, generator=torch.Generator().manual_seed(2))
    pruned = weight.abs() < 0.7
    hessian = dense(matrix)

    def loss(new: torch.Tensor) -> torch.Tensor:
        change = (new - weight).double()
        return ((change @ hessian) * change).sum(dim=1)

    plain = weight.masked_fill(pruned, 0)
    assert (loss(low_rank.compensate(weight, pruned, matrix, 0.0)) <= loss(plain) + 1e-9).all()


def test_full_rescaling_restores_the_energy_of_each_row() -> None:
    matrix = LowRankHessian(random_hessian().diagonal_I, torch.zeros(12, 2))
    weight = torch.randn(5, 12, generator=torch.Generator().manual_seed(3))
    result = low_rank.compensate(weight, weight.abs() < 0.7, matrix, rescale=1.0)
    energy = weight.square() @ matrix.diagonal_I
    torch.testing.assert_close(result.square() @ matrix.diagonal_I, energy)


@pytest.mark.parametrize("rescale", [0.0, 0.75, 1.0])
def test_nothing_pruned_changes_nothing_and_all_pruned_is_zero(rescale: float) -> None:
    matrix = random_hessian()
    weight = torch.randn(3, 12, generator=torch.Generator().manual_seed(4))
    none = torch.zeros_like(weight, dtype=torch.bool)
    torch.testing.assert_close(low_rank.compensate(weight, none, matrix, rescale), weight)
    assert low_rank.compensate(weight, ~none, matrix, rescale).eq(0).all()
