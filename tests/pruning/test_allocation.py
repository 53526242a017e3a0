"""Blocks with many outliers keep more, and all together lose what the target asks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny
import torch
from support.contract import made

from tasks.pruning.core import driver
from tasks.pruning.core.allocation import by_outliers, outlier_parts
from tasks.pruning.core.methods import OneShotMethod
from tasks.pruning.core.registry import methods, parse_target
from tasks.pruning.core.sparsity import layer_sparsity, sparsity
from tasks.pruning.core.targets import Fraction

MULTIPLE = 3.0


def lopsided() -> tiny.Decoder:
    """The second block's weights have a heavy tail."""
    decoder = tiny.decoder("llama")
    with torch.no_grad():
        for name, layer in decoder.layers().items():
            if name.startswith(f"{decoder.blocks_name}.1."):
                layer.stored.copy_(layer.stored**3)
    return decoder


def test_outliers_are_counted_over_a_whole_block() -> None:
    decoder = lopsided()
    statistics = driver.collect_statistics(decoder, tiny.tokens())
    found = outlier_parts(decoder, statistics, MULTIPLE)
    for block, part in found.items():
        scores = torch.cat([
            (layer.weight_OI.double().abs() * statistics[name].energy_I.double().sqrt()).flatten()
            for name, layer in decoder.layers().items() if name.startswith(f"{block}.")
        ])  # fmt: skip
        assert part == pytest.approx(float((scores > MULTIPLE * scores.mean()).double().mean()))


@pytest.mark.parametrize("exclude", [(), ("*.0.*down_proj",)])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
def test_all_blocks_together_lose_what_is_asked(share: float, exclude: tuple[str, ...]) -> None:
    decoder = replace(lopsided(), exclude=exclude)
    statistics = driver.collect_statistics(decoder, tiny.tokens())
    allocation = by_outliers(decoder, Fraction(share), statistics, multiple=MULTIPLE, spread=0.1)
    layers = decoder.pruned_layers()
    sizes = {name: layer.weight_OI.numel() for name, layer in layers.items()}
    lost = 0.0
    for name, size in sizes.items():
        target = allocation.of(name)
        assert isinstance(target, Fraction)
        lost += target.value * size
    assert lost / sum(sizes.values()) == pytest.approx(share, abs=1e-9)
    shares = [target.value for target in allocation.by_block.values()]
    assert 0 < min(shares) < max(shares) < 1
    if share == 0.5:
        assert max(shares) - min(shares) == pytest.approx(0.2)
    parts = outlier_parts(decoder, statistics, MULTIPLE)
    assert max(parts, key=parts.__getitem__) == min(
        allocation.by_block, key=lambda block: allocation.by_block[block].value
    )


def test_a_block_that_alone_has_outliers_lies_beyond_lambda_and_within_two() -> None:
    """What the option's help says; of two blocks alike in size each lies λ away."""
    decoder = lopsided()
    statistics = driver.collect_statistics(decoder, tiny.tokens())
    allocation = by_outliers(decoder, Fraction(0.5), statistics, multiple=MULTIPLE, spread=0.1)
    away = sorted(target.value - 0.5 for target in allocation.by_block.values())
    assert len(away) == 3
    assert -0.2 < away[0] < -0.1 < 0 < away[1] <= away[2] < 0.1


@pytest.mark.parametrize("name", ["wanda", "sparsegpt", "swiftprune", "sketched_obs"])
def test_a_method_meets_the_target_with_blocks_of_their_own(name: str) -> None:
    decoder, target = lopsided(), parse_target("0.5")
    method = replace(made(name), allocation="outliers", outlier_multiple=MULTIPLE)
    assert isinstance(method, OneShotMethod)
    tokens = tiny.tokens()
    statistics = driver.collect_statistics(decoder, tokens, sketch=getattr(method, "sketch", 0))
    result = driver.prune(method, decoder, target, tokens_NL=tokens, statistics=statistics)
    zeros = layer_sparsity(decoder, result.weights)
    assert sparsity(decoder, zeros) == pytest.approx(0.5, abs=0.02)
    of_block = [
        sum(zeros[n] for n in zeros if n.startswith(f"{decoder.blocks_name}.{index}."))
        for index in range(2)
    ]
    assert of_block[1] < of_block[0]
    assert result.figures["least_of_a_block"] < 0.5 < result.figures["most_of_a_block"]
    assert name == "sketched_obs" or "allocation outliers" in method.departs


def test_what_it_cannot_be_made_of_is_refused() -> None:
    magnitude = replace(made("magnitude"), allocation="outliers")
    assert "sees no inputs" in str(magnitude.refuses(parse_target("0.5")))
    wanda = replace(made("wanda"), allocation="outliers")
    assert "fractions" in str(wanda.refuses(parse_target("2:4")))
    assert "0.01 to 0.99" in str(wanda.refuses(parse_target("0.995")))
    assert wanda.refuses(parse_target("0.5")) is None
    idle = replace(made("wanda"), outlier_multiple=7.0)
    assert "outlier_multiple would do nothing" in str(idle.refuses(parse_target("0.5")))


def test_scores_are_per_token() -> None:
    """A layer that was sent few of them has no smaller scores for that."""
    decoder = lopsided()
    once = driver.collect_statistics(decoder, tiny.tokens())
    name = next(iter(once))
    doubled = replace(
        once[name],
        first_energy_I=2 * once[name].first_energy_I,
        rest_energy_I=2 * once[name].rest_energy_I,
        tokens=2 * once[name].tokens,
    )
    assert outlier_parts(decoder, once | {name: doubled}, MULTIPLE) == outlier_parts(
        decoder, once, MULTIPLE
    )


def test_every_one_shot_method_can_be_given_it() -> None:
    named = [name for name, method in methods().items() if issubclass(method, OneShotMethod)]
    assert {"magnitude", "wanda", "sparsegpt", "swiftprune", "sketched_obs"} <= set(named)
