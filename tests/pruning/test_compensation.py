"""Least squares for removed heads and channels, against float64 and the model's own passes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import structured
import tiny
import torch
import transformers
from support import encoders
from support.contract import made
from torch import Tensor

from tasks.models.architecture.decoder import describe
from tasks.pruning.core import driver
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.compensation import compensate, ridge_compensated
from tasks.pruning.core.hessian import damped_root
from tasks.pruning.core.methods import Chosen, StructuredMethod
from tasks.pruning.core.registry import parse_target
from tasks.pruning.core.structure import Kept, masked_weights, structure_of
from tasks.pruning.core.targets import Target
from tasks.pruning.policy_gradient.method import PolicyGradient
from tasks.pruning.wanda_sp import WandaSP

TARGET = parse_target("0.5")


def inputs_of(decoder: Decoder, weights: dict[str, Tensor], tokens_NL: Tensor) -> list[Tensor]:
    """What enters each block's attention projection and last matrix, ``T × I`` in float64."""
    model, structure = decoder.model, structure_of(decoder)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights, strict=False)
    seen: list[Tensor] = []
    hooks = [
        block.get_submodule(name).register_forward_pre_hook(
            lambda _, args: seen.append(args[0].flatten(0, -2).double())
        )
        for block in decoder.blocks
        for name in (structure.attention_out, structure.channel_out)
    ]
    with torch.no_grad():
        model(input_ids=tokens_NL)
    for hook in hooks:
        hook.remove()
    model.load_state_dict(state)
    return seen


def half(decoder: Decoder) -> list[Kept]:
    """Every other group (one at least) and every other channel of each block."""
    structure = structure_of(decoder)
    groups_G = torch.arange(structure.groups) % 2 == 0
    channels_C = torch.arange(structure.channels) % 2 == 1
    return [Kept(groups_G, channels_C) for _ in decoder.blocks]


@pytest.mark.parametrize("damping", [1e-3, 0.1, 10.0])
def test_it_is_the_ridge_regression_of_what_is_missing(damping: float) -> None:
    """Stacked with the penalty, an ordinary least-squares problem, solved without any Hessian."""
    generator = torch.Generator().manual_seed(3)
    inputs_TI = torch.randn(40, 12, generator=generator) @ torch.randn(12, 12, generator=generator)
    weight_OI = torch.randn(5, 12, generator=generator)
    stays_I = torch.arange(12) % 3 != 0
    hessian_II = 2 * inputs_TI.T @ inputs_TI / len(inputs_TI)
    found_OI, used = ridge_compensated(weight_OI, hessian_II, stays_I, damping)
    assert used == damping
    assert not found_OI[:, ~stays_I].any()

    penalty = (damping * hessian_II.diagonal().mean().double() * len(inputs_TI) / 2).sqrt()
    inputs, weight = inputs_TI.double(), weight_OI.double()
    missed_TO = inputs[:, ~stays_I] @ weight[:, ~stays_I].T
    above_XK = torch.cat([inputs[:, stays_I], penalty * torch.eye(8, dtype=torch.float64)])
    wanted_XO = torch.cat([missed_TO, torch.zeros(8, 5, dtype=torch.float64)])
    change_KO = torch.linalg.lstsq(above_XK, wanted_XO).solution
    expected = weight[:, stays_I] + change_KO.T
    torch.testing.assert_close(found_OI[:, stays_I].double(), expected, rtol=1e-4, atol=1e-4)


def test_a_channel_that_another_repeats_costs_nothing() -> None:
    generator = torch.Generator().manual_seed(4)
    inputs_TI = torch.randn(64, 6, generator=generator)
    inputs_TI[:, 5] = -2 * inputs_TI[:, 1]
    weight_OI = torch.randn(3, 6, generator=generator)
    stays_I = torch.arange(6) != 5
    hessian_II = 2 * inputs_TI.T @ inputs_TI / 64
    found_OI, _ = ridge_compensated(weight_OI, hessian_II, stays_I, 1e-6)
    torch.testing.assert_close(
        inputs_TI @ found_OI.T, inputs_TI @ weight_OI.T, rtol=1e-3, atol=1e-3
    )


def model_of(kind: str) -> Any:
    """A tiny decoder, or an encoder of that family."""
    if kind in structured.ARCHITECTURES:
        return structured.model_of(kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(transformers, f"{kind}Model")(encoders.config(kind)).eval()


@pytest.mark.parametrize("kind", [*structured.ARCHITECTURES, "Bert", "DebertaV2"])
def test_every_block_is_fitted_to_what_its_compensated_predecessors_put_out(kind: str) -> None:
    """Each weight from the whole model's own activations, with the former blocks' found weights in
    place and its own as they were, solved in float64."""
    model, damping = model_of(kind), 0.1
    decoder, tokens_NL = describe(model), structured.ids(6, 16)
    kept, structure = structured.random_kept(model, seed=5), structure_of(decoder)
    found: dict[str, Tensor] = {}
    before = {n: v.clone() for n, v in model.state_dict().items()}
    figures = compensate(decoder, kept, tokens_NL, damping, found)
    assert figures["hessians_damped_more"] == 0 and figures["calibration_seconds"] > 0
    assert all(torch.equal(v, before[n]) for n, v in model.state_dict().items())
    plain = dict(masked_weights(decoder, kept))
    assert found.keys() == plain.keys()
    columns = (structure.attention_out, structure.channel_out)
    for index, mine in enumerate(kept):
        before_it = tuple(f"{decoder.blocks_name}.{at}." for at in range(index))
        former = {n: v for n, v in found.items() if n.startswith(before_it)}
        seen = inputs_of(decoder, former, tokens_NL)[2 * index : 2 * index + 2]
        stays = (structure.query_features(mine.groups_G), mine.channels_C)
        for layer, inputs_TI, stays_I in zip(columns, seen, stays, strict=True):
            full = f"{decoder.blocks_name}.{index}.{layer}.weight"
            hessian = 2 * inputs_TI.T @ inputs_TI / len(inputs_TI)
            within = hessian[stays_I][:, stays_I].clone()
            within.diagonal().add_(damping * hessian.diagonal().mean())
            weight = before[full].double()
            missed = weight[:, ~stays_I] @ hessian[~stays_I][:, stays_I]
            expected = plain[full].double()
            expected[:, stays_I] += torch.linalg.solve(within, missed.T).T
            torch.testing.assert_close(found[full].double(), expected, rtol=1e-3, atol=1e-5)
    others = [n for n in found if not n.endswith(tuple(f"{c}.weight" for c in columns))]
    assert others and all(torch.equal(found[n], plain[n]) for n in others)


def test_blocks_that_keep_all_stay_as_they_are() -> None:
    decoder = tiny.decoder("llama")
    structure = structure_of(decoder)
    every = Kept(torch.ones(structure.groups).bool(), torch.ones(structure.channels).bool())
    found: dict[str, Tensor] = {}
    compensate(decoder, [every for _ in decoder.blocks], tiny.tokens(), 0.1, found)
    state = decoder.model.state_dict()
    assert found and all(torch.equal(value, state[name]) for name, value in found.items())


def test_dead_inputs_have_nothing_to_make_up_for() -> None:
    weight_OI = torch.randn(3, 4)
    stays_I = torch.tensor([True, False, True, True])
    found_OI, _ = ridge_compensated(weight_OI, torch.zeros(4, 4), stays_I, 0.1)
    assert torch.equal(found_OI, weight_OI * stays_I)


@pytest.mark.parametrize("channel", [0, 1])
@pytest.mark.parametrize("value", [torch.inf, torch.nan, 3e19])
def test_inputs_that_are_not_finite_are_refused_with_the_layers_name(
    channel: int, value: float
) -> None:
    """Of a channel that goes and of one that stays; the square of 3e19 overflows float32."""
    decoder = tiny.decoder("llama")
    structure = structure_of(decoder)
    broken = decoder.blocks[0].get_submodule(structure.channel_in[-1])
    broken.get_parameter("weight").data[channel] = value
    with pytest.raises(ValueError, match=rf"\.0\.{structure.channel_out}: .* not finite"):
        compensate(decoder, half(decoder), tiny.tokens(), 0.1, {})


def test_weights_that_do_not_fit_their_dtype_are_refused() -> None:
    weight_OI = torch.tensor([[6e4, 6e4]]).half()
    stays_I = torch.tensor([True, False])
    with pytest.raises(ValueError, match="made weights that are not finite"):
        ridge_compensated(weight_OI, torch.ones(2, 2), stays_I, 1e-3)


def test_a_choice_for_another_number_of_blocks_is_refused() -> None:
    decoder = tiny.decoder("llama")
    with pytest.raises(ValueError, match="1 choices for 3 blocks"):
        compensate(decoder, half(decoder)[:1], tiny.tokens(), 0.1, {})


def test_a_scale_that_is_none_ends_no_factorisation_in_a_loop() -> None:
    for mean in (0.0, torch.inf, torch.nan):
        with pytest.raises(ValueError, match="damping"):
            damped_root(torch.eye(2).clone, 0.1, mean)


def test_a_matrix_that_float32_cannot_factor_is_damped_more() -> None:
    ones_II = torch.ones(64, 64)
    root_II, damping = damped_root(ones_II.clone, 1e-9, 1.0)
    assert damping > 1e-9
    torch.testing.assert_close(root_II @ root_II.T, ones_II + damping * torch.eye(64))


@pytest.mark.parametrize("name", ["wanda_sp", "flip_gradient", "policy_gradient"])
def test_a_methods_choice_is_the_same_and_its_output_nearer(name: str) -> None:
    """The driver compensates what any structured method chose, and says what it was damped with."""
    decoder, tokens_NL = tiny.decoder("llama"), tiny.tokens()
    method = made(name)
    assert isinstance(method, StructuredMethod)
    training_NL = tiny.tokens(12, 128)
    plain, fit = (
        driver.prune(
            replace(method, compensation=how),
            decoder,
            TARGET,
            tokens_NL=tokens_NL,
            training_NL=training_NL,
        )
        for how in ("none", "least_squares")
    )
    assert plain.kept is not None and fit.kept is not None
    for mine, same in zip(plain.kept, fit.kept, strict=True):
        assert torch.equal(mine.groups_G, same.groups_G)
        assert torch.equal(mine.channels_C, same.channels_C)
    assert "hessians_damped_more" not in plain.figures
    assert fit.figures["hessians_damped_more"] == 0.0
    assert fit.figures["calibration_seconds"] > 0
    model, errors = decoder.model, []
    with torch.no_grad():
        dense = model(input_ids=tokens_NL).logits
        state = {n: v.clone() for n, v in model.state_dict().items()}
        for result in (plain, fit):
            model.load_state_dict(dict(result.weights), strict=False)
            errors.append(float((model(input_ids=tokens_NL).logits - dense).square().mean()))
            model.load_state_dict(state)
    assert errors[1] < errors[0]


def test_what_it_does_is_said_and_what_would_do_nothing_refused() -> None:
    wanda = WandaSP()
    assert wanda.departs == "" and wanda.refuses(TARGET) is None
    fit = replace(wanda, compensation="least_squares", compensation_damping=0.3)
    assert fit.departs == "compensation least_squares" and fit.refuses(TARGET) is None
    idle = replace(wanda, compensation_damping=0.3)
    assert "compensation_damping would do nothing" in str(idle.refuses(TARGET))
    drawn = PolicyGradient(compensation="least_squares")
    assert drawn.departs.endswith("compensation least_squares")


def test_a_method_of_another_package_that_sees_no_inputs_is_told_what_is_missing() -> None:
    """Also where its ``refuses`` does not ask the class that it is made from."""

    @dataclass(frozen=True, kw_only=True)
    class First(StructuredMethod):
        name: ClassVar[str] = "first"
        summary: ClassVar[str] = "The first group and channel of each block stay."
        source: ClassVar[str] = "a test"

        def choose(self, decoder: Decoder, *_: Any, **__: Any) -> Chosen:
            return Chosen(kept=tuple(half(decoder)))

    class Silent(First):
        def refuses(self, target: Target) -> str | None:
            return None

    assert "sees no inputs" in str(First(compensation="least_squares").refuses(TARGET))
    decoder = tiny.decoder("llama")
    with pytest.raises(ValueError, match="needs calibration windows"):
        driver.prune(Silent(compensation="least_squares"), decoder, TARGET)
    given = driver.prune(First(), decoder, TARGET).weights
    found = driver.prune(
        Silent(compensation="least_squares"), decoder, TARGET, tokens_NL=tiny.tokens()
    )
    assert found.weights.keys() == given.keys()
