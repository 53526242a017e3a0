"""AST's update against its formula, in float64; schedules against theirs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from tasks.pruning.ast import schedules
from tasks.pruning.ast.optimiser import StepSize, Variable, clip_scale, update_

LARGE = (1 << 16) + 77  # more than one part


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def masked(value: torch.Tensor, kept: torch.Tensor, weight_decay: float = 0.1) -> Variable:
    return Variable("w", value.clone(), weight_decay, kept.clone(), value * kept)


@pytest.mark.parametrize("corrected", [False, True])
@pytest.mark.parametrize("shape", [(6, 8), (LARGE,)])
def test_masked_updates_equal_the_formula_step_by_step(
    shape: tuple[int, ...], corrected: bool
) -> None:
    kept = torch.rand(shape, generator=generator(9)) < 0.5
    variable = masked(random(*shape), kept)
    w, m, v = random(*shape), torch.zeros(shape).double(), torch.zeros(shape).double()
    for step in range(1, 8):
        gradient = random(*shape, seed=step)
        rate, decay, clip = 0.01 * step, 1e-2 * step, 0.7
        update_(variable, gradient.clone(), StepSize(step, rate, decay, clip, corrected))
        g = clip * gradient
        m = 0.9 * m + 0.1 * g
        begun = 1 - 0.9**step
        u = (m / begun if corrected else m) + decay * (~kept * w)
        v = 0.95 * v + 0.05 * u**2
        change = u / ((v / (1 - 0.95**step)).sqrt() + 1e-8) * rate / (1 if corrected else begun)
        w = w - rate * 0.1 * w - change
        torch.testing.assert_close(variable.value, w, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(variable.momentum, m, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(variable.variance, v, rtol=1e-12, atol=1e-14)
        assert variable.computed is not None
        assert torch.equal(variable.computed, variable.value * kept)
        flipped = torch.rand(shape, generator=generator(100 + step)) < 0.1
        assert variable.kept is not None
        variable.kept ^= flipped
        kept = kept ^ flipped


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_other_parameters_take_plain_adamw(weight_decay: float) -> None:
    variable = Variable("b", random(5, 7), weight_decay)
    reference = torch.nn.Parameter(random(5, 7))
    optimiser = torch.optim.AdamW(
        [reference], lr=0.02, betas=(0.9, 0.95), eps=1e-8, weight_decay=weight_decay
    )
    for step in range(1, 6):
        reference.grad = random(5, 7, seed=step)
        update_(variable, 2 * reference.grad, StepSize(step, 0.02, 0.3, 0.5))
        optimiser.step()
        torch.testing.assert_close(variable.value, reference.data, rtol=1e-12, atol=1e-12)


def test_the_decay_touches_pruned_weights_only() -> None:
    """And draws them to zero: with an integer mask ``~mask`` would be −1 or −2 and grow them."""
    kept = torch.rand(64, generator=generator(1)) < 0.5
    with_decay, without = masked(random(64), kept, 0.0), masked(random(64), kept, 0.0)
    for step in range(1, 20):
        gradient = 1e-3 * random(64, seed=step)
        update_(with_decay, gradient, StepSize(step, 1e-3, 0.5))
        update_(without, gradient, StepSize(step, 1e-3, 0.0))
    assert torch.equal(with_decay.value[kept], without.value[kept])
    assert torch.equal(with_decay.momentum, without.momentum), "the decay went into the momentum"
    large = ~kept & (random(64).abs() > 0.1)
    assert (with_decay.value[large].abs() < random(64)[large].abs()).all()


def test_corrected_momentum_bounds_the_first_steps_by_the_learning_rate() -> None:
    """The published form's first step is ten times as long, whatever the gradient."""
    kept = torch.ones(64, dtype=torch.bool)
    for corrected, times in ((True, 1), (False, 10)):
        variable = masked(random(64), kept, 0.0)
        update_(variable, random(64, seed=1), StepSize(1, 1e-3, 0.0, 1.0, corrected))
        longest = (variable.value - random(64)).abs().max()
        assert float(longest) == pytest.approx(times * 1e-3, rel=1e-4)


def test_clipping_bounds_the_norm_of_all_gradients_together() -> None:
    gradients = [random(4, 3), random(9, seed=1)]
    norm, scale = clip_scale(gradients, 1.0)
    together = torch.cat([g.flatten() for g in gradients])
    assert norm == pytest.approx(float(together.norm()))
    assert scale * norm == pytest.approx(1.0)
    assert clip_scale([g * 1e-3 for g in gradients], 1.0)[1] == 1.0
    assert clip_scale([torch.zeros(3)], 1.0) == (0.0, 1.0)


def test_the_learning_rate_warms_up_falls_to_a_tenth_and_ends_at_zero() -> None:
    rates = [schedules.learning_rate(step, 1000, 2.0) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(2.0 * 0.5 / 50)
    assert max(rates) == pytest.approx(2.0, rel=1e-3)
    assert rates.index(max(rates)) in (49, 50)
    middle = 0.1 + 0.9 * (1 + math.cos(math.pi / 2)) / 2
    assert rates[499] == pytest.approx(2.0 * middle, rel=1e-2)
    assert rates[949] == pytest.approx(0.2, rel=1e-2)
    assert rates[974] == pytest.approx(0.1, rel=3e-2)
    assert 0 < rates[-1] < 0.003
    assert all(later < sooner for sooner, later in itertools.pairwise(rates[50:]))


@pytest.mark.parametrize("steps", [1, 2, 3, 19])
def test_short_runs_have_positive_rates(steps: int) -> None:
    assert all(0 < schedules.learning_rate(s, steps, 1.0) <= 1 for s in range(1, steps + 1))


def test_the_decay_grows_over_a_quarter_of_the_run() -> None:
    annealed = [schedules.decay(step, 100, 1e-4, "annealed", 0.25) for step in range(1, 101)]
    assert annealed[0] == pytest.approx(1e-4 / 25)
    assert annealed[11] == pytest.approx(1e-4 * 12 / 25)
    assert annealed[24:] == [1e-4] * 76
    assert schedules.decay(1, 100, 1e-4, "static", 0.25) == 1e-4
    assert schedules.decay(50, 100, 1e-4, "none", 0.25) == 0.0


def test_every_window_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    order = schedules.WindowOrder(7, seed=3)
    drawn = [window for step in range(1, 8) for window in order.batch(step, 3)]
    epochs = [drawn[first : first + 7] for first in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert schedules.WindowOrder(7, seed=3).batch(5, 3) == drawn[12:15], "a step needs its number"
    assert schedules.WindowOrder(7, seed=4).batch(1, 7) != epochs[0]
    with pytest.raises(ValueError, match="no window"):
        schedules.WindowOrder(0, seed=0)
