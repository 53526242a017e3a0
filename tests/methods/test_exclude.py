"""What a sweep excludes stays as it is, with every registered method."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch
from support.contract import METHODS, made, pruned, target_of

from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.exclusion import ExclusionError, is_excluded
from tasks.pruning.core.registry import parse_target
from tasks.pruning.core.sparsity import layer_sparsity, sparsity

EXCLUDE = ("lm_head", "model.layers.0.*", "*.down_proj.weight", "model.layers.1.self_attn")


def decoder(*exclude: str) -> Decoder:
    return dataclasses.replace(tiny.decoder("llama"), exclude=exclude)


@pytest.mark.parametrize("name", METHODS)
def test_excluded_layers_hold_no_new_zero_and_the_others_are_pruned(name: str) -> None:
    found, target = decoder(*EXCLUDE), target_of(name)
    result = pruned(made(name), found, target)
    by_layer = layer_sparsity(found, result.weights)
    left = {layer for layer in by_layer if found.excludes(layer)}
    assert left == {
        *(layer for layer in by_layer if layer.startswith("model.layers.0.")),
        *(f"model.layers.{block}.mlp.down_proj" for block in range(3)),
        *(f"model.layers.1.self_attn.{part}_proj" for part in "qkvo"),
    }
    state = found.model.state_dict()
    for layer in left:
        assert by_layer[layer] == 0.0, layer
        weight = result.weights.get(f"{layer}.weight", state[f"{layer}.weight"])
        if made(name).learns != "weights":
            assert torch.equal(weight, state[f"{layer}.weight"]), layer
    rest = by_layer.keys() - left
    if made(name).structured:
        # Channels reach into the down projection: only the heads of the last block may go.
        assert {layer for layer, share in by_layer.items() if share} == {
            f"model.layers.2.self_attn.{part}_proj" for part in "qkvo"
        }
    else:
        wanted = parse_target(target).sparsity
        assert all(by_layer[layer] == pytest.approx(wanted, abs=0.02) for layer in rest)
        sizes = {n: layer.stored.numel() for n, layer in found.layers().items()}
        share = sum(sizes[layer] for layer in rest) / sum(sizes.values())
        assert sparsity(found, by_layer) == pytest.approx(wanted * share, abs=0.02)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_not_excluded_of_a_layer_method_is_pruned_as_without(name: str) -> None:
    if made(name).structured or made(name).learns == "weights":
        pytest.skip("what one block keeps or learns moves the others")
    excluded = pruned(made(name), decoder("model.layers.2"), target_of(name)).weights
    without = pruned(made(name), decoder(), target_of(name)).weights
    assert excluded.keys() == {n for n in without if not n.startswith("model.layers.2.")}
    assert all(torch.equal(weight, without[n]) for n, weight in excluded.items())


@pytest.mark.parametrize("name", METHODS)
def test_patterns_that_name_nothing_or_everything_are_refused(name: str) -> None:
    for patterns, told in (
        (("*.q_porj",), r"'\*\.q_porj'.*close to it: \*\.q_proj"),
        (("model.layers.9.*",), r"'model\.layers\.9\.\*'.*close to it"),
        (("*.gate_proj.bias",), "no layer"),
        (("model",), "nothing is left to prune of 21 layers"),
    ):
        with pytest.raises(ExclusionError, match=told):
            pruned(made(name), decoder(*patterns), target_of(name))
    if made(name).structured:
        with pytest.raises(ValueError, match="no heads or channels to remove"):
            pruned(made(name), decoder("*.q_proj", "*.up_proj"), target_of(name))


def test_a_pattern_names_what_lies_in_a_module_and_nothing_else() -> None:
    layer = "model.layers.10.mlp.experts.down_proj.3"
    for pattern in (
        layer, "model.layers.10", "*.mlp", "*.experts", "*.down_proj", "*.down_proj.[0-3]",
        "*.experts.down_proj.weight", "model.layers.1?.*",
    ):  # fmt: skip
        assert is_excluded(layer, (pattern,)), pattern
    for pattern in ("model.layers.1", "layers.10.*", "down_proj", "*.down_proj.4", "*.MLP"):
        assert not is_excluded(layer, (pattern,)), pattern
