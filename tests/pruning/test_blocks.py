"""The walk against the model's own forward pass."""

from __future__ import annotations

import pytest
import tiny
import torch
from torch import nn

from tasks.pruning.core import driver
from tasks.pruning.core.blocks import BlockAtWork, walk
from tasks.pruning.core.refusals import UnsupportedLayerError
from tasks.pruning.core.statistics import ColumnCollector
from tasks.pruning.core.targets import Fraction, parse_target
from tasks.pruning.magnitude import Magnitude


def inputs_by_forward_pass(model: nn.Module, names: list[str], tokens: torch.Tensor) -> dict:
    """What each layer is called with when the whole model runs, one window at a time."""
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in names}
    handles = [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, name=name: seen[name].append(args[0].reshape(-1, args[0].shape[-1]))
        )
        for name in names
    ]
    with torch.no_grad():
        for window in tokens:
            model(input_ids=window[None])
    for handle in handles:
        handle.remove()
    return {name: torch.cat(found).double() for name, found in seen.items()}


@pytest.mark.parametrize("batch", [1, 4, 8])
@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
def test_statistics_equal_those_of_the_whole_model(architecture: str, batch: int) -> None:
    decoder = tiny.decoder(architecture)
    tokens = tiny.tokens()
    seen = inputs_by_forward_pass(decoder.model, list(decoder.layers()), tokens)
    collected = {}

    def visit(block: BlockAtWork) -> None:
        for name, collector in block.collect(ColumnCollector).items():
            collected[f"{block.name}.{name}"] = collector.result()

    walk(decoder, tokens, visit, batch=batch)
    assert collected.keys() == seen.keys()
    for name, statistics in collected.items():
        assert statistics.tokens == tokens.numel()
        assert statistics.windows == len(tokens)
        by_window = seen[name].view(len(tokens), tokens.shape[1], -1)
        rest = by_window[:, 1:]
        energy = seen[name].square().sum(0)
        torch.testing.assert_close(statistics.energy_I.double(), energy, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            statistics.rest_sum_I.double(), rest.sum((0, 1)), rtol=1e-3, atol=1e-3
        )
        torch.testing.assert_close(
            statistics.first_energy_I.double(),
            by_window[:, 0].square().sum(0),
            rtol=1e-4,
            atol=1e-4,
        )


def test_layers_that_share_an_input_share_a_collector() -> None:
    decoder = tiny.decoder("llama")
    found = {}

    def visit(block: BlockAtWork) -> None:
        found.update(block.collect(ColumnCollector))

    walk(decoder, tiny.tokens(), visit)
    attention = [found[f"self_attn.{name}_proj"] for name in "qkv"]
    assert attention[0] is attention[1] is attention[2]
    assert found["mlp.gate_proj"] is found["mlp.up_proj"]
    assert found["mlp.down_proj"] is not found["mlp.gate_proj"]
    assert found["self_attn.o_proj"] is not attention[0]


def test_no_hook_is_left_when_a_visit_fails() -> None:
    decoder = tiny.decoder("llama")

    def visit(_: BlockAtWork) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        walk(decoder, tiny.tokens(), visit)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in decoder.model.modules())


def test_progress_counts_blocks() -> None:
    steps: list[tuple[int, int]] = []
    decoder = tiny.decoder("llama")
    driver.collect_statistics(
        decoder, tiny.tokens(), progress=lambda done, total: steps.append((done, total))
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_errors_name_the_layer() -> None:
    decoder = tiny.decoder("llama")
    with pytest.raises(UnsupportedLayerError, match=r"model\.layers\.0\.self_attn\.q_proj.*5"):
        driver.prune(Magnitude(), decoder, parse_target("2:5"))
    decoder.blocks[1].mlp.up_proj.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"model\.layers\.1\.mlp\.up_proj.*NaN"):
        driver.prune(Magnitude(), decoder, Fraction(0.5))
