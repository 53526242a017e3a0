"""What every registered method promises, on every architecture it supports."""

from __future__ import annotations

import dataclasses

import pytest
import tiny
import torch
from support.contract import METHODS, made, pruned, sketch_of, target_of

from configs.schema import SweepConfig
from tasks.pruning.core import driver
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import JointMethod, Method, PruneResult
from tasks.pruning.core.registry import methods, parse_target
from tasks.pruning.core.sparsity import layer_sparsity, sparsity
from tasks.pruning.core.targets import SemiStructured

STRUCTURED = [name for name in METHODS if methods()[name].structured]
TARGETS = ["0.3", "0.5", "0.75", "2:4", "1:4", "4:8"]


def supports(method: str, architecture: str) -> bool:
    """Heads and channels are known of LLaMA-like and of OPT-like decoders."""
    return method not in STRUCTURED or tiny.decoder(architecture).structure is not None


CASES = [
    (method, target, architecture)
    for method in METHODS
    for target in TARGETS
    for architecture in tiny.ARCHITECTURES
    if methods()[method]().refuses(parse_target(target)) is None and supports(method, architecture)
]


def run(method: Method, architecture: str, target: str, seed: int = 0) -> PruneResult:
    return pruned(method, tiny.decoder(architecture), target, seed)


def test_the_mission_methods_are_registered() -> None:
    assert {
        "magnitude",
        "wanda",
        "swiftprune",
        "sketched_obs",
        "sparsegpt",
        "policy_gradient",
        "ast",
    } <= set(METHODS)
    assert {architecture for _, _, architecture in CASES} == set(tiny.ARCHITECTURES)
    assert len(CASES) >= 3 * len(tiny.ARCHITECTURES)


@pytest.mark.parametrize(("name", "target", "architecture"), CASES)
def test_reaches_the_target(name: str, target: str, architecture: str) -> None:
    decoder = tiny.decoder(architecture)
    result = run(made(name), architecture, target)
    wanted = parse_target(target)
    by_layer = layer_sparsity(decoder, result.weights)
    assert by_layer.keys() == decoder.layers().keys()
    overall = sparsity(decoder, by_layer)
    if name in STRUCTURED:
        # Whole heads: a model of this size has few, and a block keeps one. Where each block rounds
        # its own share, a block of two groups can be a quarter of its attention off.
        assert overall == pytest.approx(wanted.sparsity, abs=0.1)
        return
    for layer, share in by_layer.items():
        tolerance = 1e-9 if isinstance(wanted, SemiStructured) else 0.005
        assert share == pytest.approx(wanted.sparsity, abs=tolerance), layer
    assert overall == pytest.approx(wanted.sparsity, abs=0.02)
    if isinstance(wanted, SemiStructured):
        _require_groups(decoder, result, wanted)


def _require_groups(decoder: Decoder, result: PruneResult, wanted: SemiStructured) -> None:
    for name, layer in decoder.layers().items():
        weight = result.weights[f"{name}.weight"]
        weight_OI = weight.T if layer.transposed else weight
        kept = weight_OI.reshape(weight_OI.shape[0], -1, wanted.group).ne(0).sum(-1)
        assert kept.max() <= wanted.keep, name


@pytest.mark.parametrize(("name", "target", "architecture"), CASES)
def test_same_seed_same_bits(name: str, target: str, architecture: str) -> None:
    first = run(made(name), architecture, target, seed=3)
    second = run(made(name), architecture, target, seed=3)
    assert first.weights.keys() == second.weights.keys()
    assert all(torch.equal(w, second.weights[k]) for k, w in first.weights.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
@pytest.mark.parametrize("name", METHODS)
def test_keeps_shapes_dtypes_and_the_callers_model(
    name: str, architecture: str, dtype: torch.dtype
) -> None:
    if not supports(name, architecture):
        with pytest.raises(ValueError, match="LLaMA-like"):
            run(made(name), architecture, "0.5")
        return
    decoder = tiny.decoder(architecture)
    decoder.model.to(dtype)
    before = {key: value.clone() for key, value in decoder.model.state_dict().items()}
    tokens = tiny.tokens()
    tokens_before = tokens.clone()
    statistics = driver.collect_statistics(decoder, tokens, sketch=sketch_of(made(name)))
    kept = {key: entry.to(torch.device("cpu")) for key, entry in statistics.items()}
    random_state = torch.random.get_rng_state()
    result = driver.prune(
        made(name),
        decoder,
        parse_target(target_of(name)),
        tokens_NL=tokens,
        statistics=statistics,
        training_NL=tokens,
    )
    state = decoder.model.state_dict()
    assert all(torch.equal(before[key], state[key]) for key in before)
    assert torch.equal(tokens, tokens_before)
    for key, entry in kept.items():
        for sums, tensor in entry.tensors().items():
            assert torch.equal(getattr(statistics[key], sums), tensor)
    assert torch.equal(random_state, torch.random.get_rng_state()), "global randomness was used"
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in decoder.model.modules()
    )
    for key, weight in result.weights.items():
        assert weight.shape == state[key].shape, key
        assert weight.dtype == dtype, key
        assert weight.is_contiguous(), key
        assert torch.isfinite(weight).all(), key
        assert weight.data_ptr() != state[key].data_ptr(), key


@pytest.mark.parametrize("target", ["0.3", "0.5", "2:4"])
@pytest.mark.parametrize("zeros", ["none", "rows", "columns"])
@pytest.mark.parametrize("name", [n for n in METHODS if issubclass(methods()[n], JointMethod)])
def test_layers_of_one_input_are_pruned_as_each_alone(name: str, zeros: str, target: str) -> None:
    """What one has of zeros, or ``exclude`` leaves out, is nothing to the others."""
    method, draw = methods()[name](), torch.Generator().manual_seed(0)
    assert isinstance(method, JointMethod)
    weights = {n: torch.randn(rows, 36, generator=draw) for n, rows in (("q", 32), ("k", 16))}
    if zeros == "rows":
        weights["q"].masked_fill_(torch.rand(32, 36, generator=draw) < 0.7, 0)
    if zeros == "columns":
        weights["q"][:, :9] = 0
    inputs_NLI = torch.randn(4, 64, 36, generator=draw)

    def together(*names: str) -> dict[str, torch.Tensor]:
        collector = method.collector(36, torch.device("cpu"))
        collector.add(inputs_NLI)
        some = {name: weights[name] for name in names}
        return method.prune_layers(some, collector, parse_target(target), torch.Generator())

    both = together("q", "k")
    assert both.keys() == weights.keys()
    for layer, pruned_OI in both.items():
        alone_OI = together(layer)[layer]
        assert torch.equal(pruned_OI == 0, alone_OI == 0), layer
        torch.testing.assert_close(pruned_OI, alone_OI)


@pytest.mark.parametrize("name", METHODS)
def test_a_target_near_zero_is_the_identity(name: str) -> None:
    method = made(name)
    if method.refuses(parse_target("0.0001")):
        assert method.refuses(parse_target("999:1000")) is None
        pytest.skip("keep:group has no target near zero on layers this small")
    decoder = tiny.decoder("llama")
    result = pruned(method, decoder, "0.0001")
    for key, weight in result.weights.items():
        before = decoder.model.state_dict()[key]
        changed = weight.ne(before).float().mean()
        assert changed <= 0.002 or (weight - before).norm() <= 0.02 * before.norm(), key


@pytest.mark.parametrize("name", METHODS)
def test_options_round_trip_through_the_schema(name: str) -> None:
    config = SweepConfig(name="x", methods=(name,))
    method = config.method(name)
    assert method == methods()[name]()
    again = SweepConfig.model_validate(config.model_dump(mode="json"))
    assert again == config
    assert again.method(name) == method
    for field in dataclasses.fields(method):
        assert field.metadata["doc"].endswith("."), f"{name}.{field.name} lacks its doc line"


@pytest.mark.parametrize("name", METHODS)
def test_pruning_by_hand_equals_pruning_in_the_model(name: str) -> None:
    """The weights that come back give the sparsity that the driver counts, and run."""
    decoder = tiny.decoder("llama")
    result = run(made(name), "llama", target_of(name))
    decoder.model.load_state_dict(result.weights, strict=False)
    with torch.no_grad():
        logits = decoder.model(input_ids=tiny.tokens(2)).logits
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", METHODS)
def test_a_group_that_does_not_divide_the_layer_is_refused(name: str) -> None:
    if made(name).refuses(parse_target("3:7")):
        pytest.skip("the method takes no such target")
    with pytest.raises(ValueError, match=r"divisible by 7.*32|3:7"):
        run(made(name), "llama", "3:7")
