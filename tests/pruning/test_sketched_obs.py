"""The sketched Hessian and its closed forms against dense float64 linear algebra."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import tiny
import torch
from torch import Tensor

from tasks.pruning.core import driver
from tasks.pruning.core.energy import rescaled
from tasks.pruning.core.methods import LayerMethod, Method
from tasks.pruning.core.statistics import ColumnCollector, ColumnStatistics
from tasks.pruning.core.targets import Fraction, SemiStructured
from tasks.pruning.full_obs import FullOBS
from tasks.pruning.magnitude import Magnitude
from tasks.pruning.sketched_obs.hessian import LowRankHessian, low_rank_hessian
from tasks.pruning.sketched_obs.method import SketchedOBS
from tasks.pruning.sketched_obs.update import compensated_, saliency

COLUMNS = 12
HALF = Fraction(0.5)


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
        least = 1e-5 * float(moments_II.diagonal().mean())  # of d
        torch.testing.assert_close(
            dense(matrix).diagonal(), moments_II.diagonal(), rtol=1e-4, atol=least
        )
    assert errors[3] < 0.01
    assert errors[0] > 0.2


def test_a_sketch_as_wide_as_the_inputs_gives_their_covariances() -> None:
    inputs = inputs_with_three_directions(columns=12)
    inputs[:, 0] = inputs[:, 0].mean(dim=0)
    matrix = low_rank_hessian(statistics_of(inputs, 64), 3, 0.05, 0.0)
    moments_II = second_moments(inputs, 0.05)
    scale_I = moments_II.diagonal().sqrt()
    off_II = (dense(matrix) - moments_II) / torch.outer(scale_I, scale_I)
    assert float(off_II.abs().max()) < 0.01


def sent(inputs_TI: Tensor, sketch: int = 192, firsts: int = 0) -> ColumnStatistics:
    """Statistics of tokens, the first few of which stand first in their windows."""
    collector = ColumnCollector(inputs_TI.shape[1], torch.device("cpu"), sketch)
    collector.add_sent(inputs_TI, torch.arange(len(inputs_TI)) < firsts)
    return collector.result()


def correlated(tokens: int, columns: int, seed: int, noise: float = 0.5) -> Tensor:
    """Unequal columns with a mean, about 20 directions and noise."""
    mixing_KI = torch.randn(20, columns, generator=generator(2))
    mixing_KI *= torch.logspace(0, -1, 20)[:, None]
    mean_I = torch.randn(columns, generator=generator(3))
    drawn = torch.randn(tokens, 20 + columns, generator=generator(seed))
    inputs_TI = drawn[:, :20] @ mixing_KI + noise * drawn[:, 20:] + mean_I
    return inputs_TI * (0.7 * torch.randn(columns, generator=generator(4))).exp()


@pytest.mark.parametrize("ridge", [0.0, 0.01])
@pytest.mark.parametrize(
    ("inputs_TI", "firsts"),
    [
        *((correlated(tokens, 200, 0), 0) for tokens in (1, 2, 5, 64, 97, 98, 150)),
        (correlated(400, 24, 0), 0),  # fewer columns than directions
        (correlated(400, 200, 0, noise=0.0), 0),  # inputs of a few directions
        (torch.ones(9, 200), 0),
        (correlated(3, 200, 0), 3),
    ],
    ids=["1", "2", "5", "64", "97", "98", "150", "narrow", "low rank", "constant", "firsts"],
)
def test_the_diagonal_is_a_part_of_the_inputs_mean_square(
    inputs_TI: Tensor, firsts: int, ridge: float
) -> None:
    """Rounding errors are none: d would be noise, and the system that is solved singular."""
    matrix = low_rank_hessian(sent(inputs_TI, firsts=firsts), 96, 0.05, ridge)
    square = float(inputs_TI.square().mean()) * (0.05 if firsts else 1.0)
    assert float(matrix.diagonal_I.min()) >= 0.99e-5 * square


def test_first_positions_do_not_raise_the_least_diagonal() -> None:
    """A single column of theirs dwarfs all others, whose differences it would hide."""
    inputs_TI = correlated(400, 200, 0, noise=0.0)
    inputs_TI[:3] = 0
    inputs_TI[:3, 5] = 1e4
    matrix = low_rank_hessian(sent(inputs_TI, firsts=3), 48, 0.05, 0.0)
    assert float(matrix.diagonal_I.median()) < 1e-3 * float(inputs_TI[3:].square().mean())


def pruned(method: Method, weight_OI: Tensor, inputs_TI: Tensor) -> Tensor:
    if isinstance(method, FullOBS):
        collector = method.collector(weight_OI.shape[1], torch.device("cpu"))
        collector.add(inputs_TI[None])
        return method.prune_layers({"": weight_OI}, collector, HALF, generator())[""]
    assert isinstance(method, LayerMethod)
    return method.prune_layer(weight_OI, sent(inputs_TI), HALF, generator())


@pytest.mark.parametrize(("tokens", "columns"), [(2, 200), (64, 200), (97, 200), (400, 24)])
def test_inputs_of_another_size_make_the_same_masks(tokens: int, columns: int) -> None:
    weight_OI = torch.randn(40, columns, generator=generator(9))
    inputs_TI = correlated(tokens, columns, 0)
    before_OI = pruned(SketchedOBS(), weight_OI, inputs_TI)
    for size in (2.0**-20, 2.0**20):
        result_OI = pruned(SketchedOBS(), weight_OI, size * inputs_TI)
        assert torch.equal(result_OI == 0, before_OI == 0)
        torch.testing.assert_close(result_OI, before_OI)
    for size in (1e-6, 3e4):
        result_OI = pruned(SketchedOBS(), weight_OI, size * inputs_TI)
        other = (result_OI == 0) != (before_OI == 0)
        assert float(other.float().mean()) < 0.002  # what rounding decides
        assert float((result_OI - before_OI).norm() / before_OI.norm()) < 0.02


def unlike(tokens: int, columns: int, seed: int) -> Tensor:
    """Columns that have nothing to do with each other, with heavy tails."""
    factors = torch.randn(2, tokens, columns, generator=generator(seed))
    return factors[0] * factors[1]


@pytest.mark.parametrize("inputs", [correlated, unlike])
@pytest.mark.parametrize(
    ("tokens", "columns"),
    [*((t, 200) for t in (1, 2, 4, 12, 24, 48, 49, 50, 64, 96, 192)), (400, 24), (4000, 24)],
)
def test_few_tokens_or_columns_are_no_worse_than_fewer_directions(
    inputs: Callable[[int, int, int], Tensor], tokens: int, columns: int
) -> None:
    """By the error of the outputs on tokens that the method has not seen."""
    weight_OI = torch.randn(40, columns, generator=generator(9))
    seen_TI, fresh_TI = inputs(tokens, columns, 8), inputs(1000, columns, 7)
    expected_TO = fresh_TI @ weight_OI.T

    def error(method: Method) -> float:
        result_OI = pruned(method, weight_OI, seen_TI)
        return float((fresh_TI @ result_OI.T - expected_TO).norm() / expected_TO.norm())

    mine = error(SketchedOBS(directions=48))
    fewer = min(error(SketchedOBS(directions=directions)) for directions in (0, 4, 12, 24))
    assert mine < 1.2 * fewer
    assert mine < 1.25 * error(Magnitude())
    assert mine < 2 * error(FullOBS())


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
