"""Mixtures of experts and hybrids: what is pruned with which tokens, and what stays as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import families
from torch import Tensor, nn

from tasks.measures.reconstruction.layer_errors import reconstruction_errors
from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.pruning.ast.method import AdaptiveSparseTrainer
from tasks.pruning.core import driver
from tasks.pruning.core.experts import sent_to_experts
from tasks.pruning.core.layers import exempt_weights, linear_layers
from tasks.pruning.core.masks import lowest_per_row
from tasks.pruning.core.methods import Method
from tasks.pruning.core.statistics import ColumnCollector
from tasks.pruning.core.targets import Fraction, parse_target
from tasks.pruning.full_obs import FullOBS
from tasks.pruning.magnitude import Magnitude
from tasks.pruning.sketched_obs.hessian import low_rank_hessian
from tasks.pruning.sketched_obs.method import SketchedOBS
from tasks.pruning.sparsegpt import SparseGPT
from tasks.pruning.swiftprune.method import SwiftPrune
from tasks.pruning.wanda import Wanda

HALF = Fraction(0.5)
BLOCKS, EXPERTS, HIDDEN = 4, 4, 32


@pytest.mark.parametrize(
    ("family", "exempt"),
    [
        ("llama", {}),
        ("mixtral", {"router": BLOCKS * EXPERTS * HIDDEN}),
        # The gate of the shared expert is one row.
        ("qwen2_moe", {"router": BLOCKS * (EXPERTS + 1) * HIDDEN}),
        ("deepseek_v3", {"router": (BLOCKS - 1) * EXPERTS * HIDDEN}),
        ("gpt_oss", {"router": 512, "bias of experts": BLOCKS * EXPERTS * (2 * 48 + HIDDEN)}),
        # Convolution of query, key and value channels over 4 tokens, in every second block.
        ("qwen3_5_text", {"depthwise convolution": 2 * 48 * 4}),
        # d_inner 48, 8 states, a time step of rank 2.
        (
            "falcon_mamba",
            {"depthwise convolution": 4 * 48 * 4, "state space": 4 * (48 * 8 + 48 * 2)},
        ),
    ],
)
def test_what_stays_dense_is_counted(family: str, exempt: dict[str, int]) -> None:
    decoder = describe(families.model_of(family))
    assert decoder.exempt() == exempt
    layers = {layer.parameter_of(name) for name, layer in decoder.layers().items()}
    for index, block in enumerate(decoder.blocks):
        mine = {f"{decoder.blocks_name}.{index}.{name}" for name in exempt_weights(block)}
        assert not mine & layers
        large = {
            f"{decoder.blocks_name}.{index}.{name}"
            for name, weight in block.named_parameters()
            if weight.ndim >= 2
        }
        assert large <= mine | layers


def test_a_shared_experts_matrix_of_as_many_rows_as_experts_is_no_router() -> None:
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    config = families.config_of("qwen2_moe").to_dict() | {"shared_expert_intermediate_size": 4}
    block = describe(Qwen2MoeForCausalLM(Qwen2MoeConfig(**config))).blocks[0]
    assert {"mlp.shared_expert.gate_proj", "mlp.shared_expert.up_proj"} <= linear_layers(
        block
    ).keys()
    assert "mlp.shared_expert_gate" not in linear_layers(block)


def test_statistics_count_each_token_with_its_experts() -> None:
    """Each token goes to two experts, so that their energies add up to twice all tokens'."""
    decoder = describe(families.model_of("mixtral"))
    tokens_NL = families.windows(5, 24)
    entering: list[Tensor] = []
    experts = decoder.blocks[1].mlp.experts
    hook = experts.register_forward_pre_hook(lambda _, args: entering.append(args[0].double()))
    decoder.model(input_ids=tokens_NL, use_cache=False)
    hook.remove()
    found = driver.collect_statistics(decoder, tokens_NL)
    mine = [s for n, s in found.items() if n.startswith("model.layers.1.mlp.experts.gate_up_proj")]
    assert len(mine) == EXPERTS
    inputs_NLI = torch.cat(entering).view(5, 24, -1)
    first, rest = inputs_NLI[:, :1], inputs_NLI[:, 1:]
    for part, (a, b) in {
        "first": ("first_sum_I", "first_energy_I"),
        "rest": ("rest_sum_I", "rest_energy_I"),
    }.items():
        inputs = first if part == "first" else rest
        sums = torch.stack([getattr(s, a) for s in mine]).sum(0).double()
        energies = torch.stack([getattr(s, b) for s in mine]).sum(0).double()
        torch.testing.assert_close(sums, 2 * inputs.sum((0, 1)), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(energies, 2 * inputs.square().sum((0, 1)), rtol=1e-4, atol=1e-4)
    # Each expert's own: means over other tokens would be those of no expert.
    assert sum(s.windows for s in mine) == 2 * 5
    assert sum(s.tokens for s in mine) == 2 * 120
    assert {(s.windows, s.tokens) for s in mine} != {(5, 120)}


def test_an_experts_moments_are_those_of_the_tokens_it_is_sent() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs_RI = torch.randn(9, 4, generator=generator) + 2
    first_R = torch.tensor([True, False, False, True, False, False, True, False, False])
    sent, whole = (ColumnCollector(4, torch.device("cpu"), sketch=4) for _ in range(2))
    sent.add_sent(inputs_RI, first_R)
    whole.add(inputs_RI.view(3, 3, 4))  # as windows that hold these tokens and no others
    mine, its = sent.result(), whole.result()
    assert (mine.windows, mine.tokens) == (its.windows, its.tokens)
    for name, tensor in its.tensors().items():
        torch.testing.assert_close(mine.tensors()[name], tensor)


def test_an_expert_without_first_positions_has_moments() -> None:
    sent = ColumnCollector(4, torch.device("cpu"))
    sent.add_sent(torch.ones(5, 4), torch.zeros(5, dtype=torch.bool))
    found = low_rank_hessian(sent.result(), 0, 0.1, 0.01)
    assert torch.isfinite(found.diagonal_I).all()
    torch.testing.assert_close(found.directions_IR[:, 0], torch.ones(4))


def lonely(family: str = "gpt_oss") -> Any:
    """A model none of whose tokens goes to expert 3."""
    model = families.model_of(family)
    for block in model.model.layers:
        block.mlp.router.bias[3] = -1e9
    return model


@pytest.mark.parametrize(
    "method",
    [
        Wanda(),
        SparseGPT(),
        SwiftPrune(contribution="output", selection="exact"),
        SketchedOBS(),
        FullOBS(),
    ],
    ids=lambda m: m.name,
)
def test_experts_without_tokens_are_told_and_go_by_magnitude(method: Method) -> None:
    decoder, tokens_NL = describe(lonely()), families.windows()
    statistics = driver.collect_statistics(decoder, tokens_NL, sketch=SketchedOBS().sketch)
    with pytest.warns(RuntimeWarning, match="no calibration token reached 4 experts"):
        result = driver.prune(method, decoder, HALF, tokens_NL=tokens_NL, statistics=statistics)
    assert result.figures["experts_without_tokens"] == BLOCKS
    for name, layer in decoder.layers().items():
        pruned = layer.within(result.weights[layer.parameter_of(name)])
        pruned_OI = pruned.T if layer.transposed else pruned
        by_magnitude = pruned_OI == layer.weight_OI.masked_fill(
            lowest_per_row(layer.weight_OI.abs(), 0.5), 0
        )
        assert by_magnitude.all() == (layer.expert == 3), name


@pytest.mark.parametrize(
    "method", [Wanda(), SparseGPT(), FullOBS(), SwiftPrune(), SketchedOBS()], ids=lambda m: m.name
)
def test_how_few_tokens_an_expert_saw_is_recorded(method: Method) -> None:
    """In the first block alone: what later ones see depends on how the block before is pruned."""
    later = tuple(f"model.layers.{index}.*" for index in range(1, BLOCKS))
    decoder, tokens_NL = describe(families.model_of("mixtral"), later), families.windows()
    counts: list[int] = []

    def count(_: nn.Module, args: tuple[Any, ...]) -> None:
        counts.extend(int((args[1] == expert).sum()) for expert in range(EXPERTS))

    hook = decoder.blocks[0].mlp.experts.register_forward_pre_hook(count)
    decoder.model(input_ids=tokens_NL, use_cache=False)
    hook.remove()
    assert min(counts) > 0 and len(set(counts)) > 1
    statistics = driver.collect_statistics(decoder, tokens_NL, sketch=SketchedOBS().sketch)
    told = driver.prune(method, decoder, HALF, tokens_NL=tokens_NL, statistics=statistics).figures
    assert {name: value for name, value in told.items() if "expert" in name} == {
        "fewest_tokens_of_an_expert": min(counts),
        "median_tokens_of_an_expert": sorted(counts)[EXPERTS // 2 - 1],
    }


def test_models_without_experts_record_nothing_of_them() -> None:
    decoder, tokens_NL = describe(families.model_of("llama")), families.windows()
    told = driver.prune(Wanda(), decoder, HALF, tokens_NL=tokens_NL).figures
    assert not [name for name in told if "expert" in name]


def test_magnitude_needs_no_tokens() -> None:
    result = driver.prune(Magnitude(), describe(lonely()), HALF)
    assert result.figures == {}


def test_the_layer_error_of_experts_is_the_formulas() -> None:
    decoder, tokens_NL = describe(lonely()), families.windows()
    pruned = dict(driver.prune(Magnitude(), decoder, HALF).weights)
    errors = reconstruction_errors(decoder.model, decoder, pruned, tokens_NL, batch_size=2)
    assert {name for name, layer in decoder.layers().items() if layer.expert == 3} == (
        decoder.layers().keys() - errors.keys()
    )
    inputs: dict[str, Tensor] = {}

    def note(experts: nn.Module, args: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        for sent in sent_to_experts(experts, args, keywords):
            inputs.update({f"{t}.{sent.expert}": x.double() for t, x in sent.inputs.items()})

    experts = decoder.blocks[2].mlp.experts
    with_hook = experts.register_forward_pre_hook(note, with_kwargs=True)
    decoder.model(input_ids=tokens_NL, use_cache=False)
    with_hook.remove()
    for short in ("gate_up_proj.1", "down_proj.2"):
        name = f"model.layers.2.mlp.experts.{short}"
        layer = decoder.layers()[name]
        before_IO = layer.stored.double()
        after_IO = layer.within(pruned[layer.parameter_of(name)]).double()
        expected = (inputs[short] @ (before_IO - after_IO)).norm() / (
            inputs[short] @ before_IO
        ).norm()
        assert errors[name] == pytest.approx(float(expected), rel=1e-4)


def test_groups_of_transposed_experts_lie_along_their_inputs() -> None:
    decoder, tokens_NL = describe(families.model_of("gpt_oss")), families.windows()
    weights = driver.prune(Wanda(), decoder, parse_target("2:4"), tokens_NL=tokens_NL).weights
    down_EIO = weights["model.layers.0.mlp.experts.down_proj"]
    kept = down_EIO.view(EXPERTS, 12, 4, HIDDEN).count_nonzero(dim=2)
    assert kept.eq(2).all()


def test_experts_that_compute_something_else_are_refused() -> None:
    model = families.model_of("mixtral")
    model.model.layers[2].mlp.experts.register_forward_hook(lambda _, args, out: out * 1.5)
    with pytest.raises(UnsupportedModelError, match=r"Mixtral.*something else than their two"):
        driver.collect_statistics(describe(model), families.windows())


def test_ast_refuses_mixtures() -> None:
    decoder = describe(families.model_of("mixtral"))
    with pytest.raises(UnsupportedModelError, match="ast does not retrain mixtures of experts"):
        driver.prune(
            AdaptiveSparseTrainer(), decoder, parse_target("2:4"), training_NL=families.windows()
        )
