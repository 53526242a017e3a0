"""Every method on a GPU against the CPU's result, and what only a GPU can run.

    pytest tests/gpu

Needs torch, transformers, accelerate, safetensors and this repository. Where there is no GPU all of
it is skipped; SECATEUR_GPU_REHEARSAL=1 runs it on the CPU, which shows that the suite itself works.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
import tiny
import torch
from support.contract import METHODS, made, sketch_of, target_of
from transformers import PreTrainedModel

from tasks.measures.perplexity.perplexity import perplexity
from tasks.pruning.core import driver
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import PruneResult
from tasks.pruning.core.registry import parse_target
from tasks.pruning.core.sparsity import layer_sparsity, sparsity

REHEARSAL = os.environ.get("SECATEUR_GPU_REHEARSAL") == "1"
DEVICE = torch.device("cpu" if REHEARSAL else "cuda")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not (REHEARSAL or torch.cuda.is_available()), reason="there is no GPU (torch.cuda)"
    ),
]
SAME_MASK = 0.995
"""Part of the entries on which both agree: weights close to the cut may fall on its other side."""


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """Float32 products as the CPU makes them."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def moved(decoder: Decoder, device: torch.device) -> Decoder:
    """The same model on ``device``; the given one stays where it is."""
    return replace(decoder, model=copy.deepcopy(decoder.model).to(device))


def pruned(name: str, decoder: Decoder, device: torch.device | None = None) -> PruneResult:
    method, tokens = made(name), tiny.tokens()
    return driver.prune(
        method,
        decoder,
        parse_target(target_of(name)),
        tokens_NL=tokens,
        statistics=driver.collect_statistics(
            decoder, tokens, sketch=sketch_of(method), device=device
        ),
        training_NL=tiny.tokens(seed=1),
        device=device,
    )


def agreement(a: PruneResult, b: PruneResult) -> tuple[float, float]:
    """(part of equal mask entries, largest relative difference of a tensor kept alike)."""
    alike = entries = 0
    worst = 0.0
    assert a.weights.keys() == b.weights.keys()
    for name, mine in a.weights.items():
        first, second = mine.cpu().float(), b.weights[name].cpu().float()
        same = first.eq(0) == second.eq(0)
        alike += int(same.sum())
        entries += same.numel()
        both = torch.where(same, first - second, 0)
        worst = max(worst, float(both.norm() / first.norm().clamp(min=1e-6)))
    return alike / entries, worst


def zeros(decoder: Decoder, result: PruneResult) -> float:
    """Part of the weights of the blocks' linear layers."""
    weights = {name: weight.cpu() for name, weight in result.weights.items()}
    return sparsity(decoder, layer_sparsity(decoder, weights))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_gives_the_cpus_result(name: str) -> None:
    decoder = tiny.decoder("llama")
    there = pruned(name, moved(decoder, DEVICE))
    here = pruned(name, decoder)
    mask, values = agreement(here, there)
    assert mask >= SAME_MASK
    assert values < 2e-2  # AST's four steps multiply what rounding begins
    assert zeros(decoder, there) == pytest.approx(zeros(decoder, here), abs=1e-3)


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("ast", "policy_gradient")])
def test_block_by_block_gives_what_the_model_on_the_gpu_gives(name: str) -> None:
    """Weights stay in main memory and only the block at work is on the GPU."""
    decoder = tiny.decoder("llama")
    onloaded = pruned(name, decoder, DEVICE)
    assert {w.device.type for w in onloaded.weights.values()} == {"cpu"}
    assert {p.device.type for p in decoder.model.parameters()} == {"cpu"}, "a block stayed there"
    mask, values = agreement(onloaded, pruned(name, moved(decoder, DEVICE)))
    assert mask >= SAME_MASK and values < 1e-3


@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
def test_perplexity_is_the_cpus(architecture: str) -> None:
    decoder = tiny.decoder(architecture)
    windows = tiny.tokens(8, 24)
    assert isinstance(decoder.model, PreTrainedModel)
    here = perplexity(decoder.model, windows).perplexity
    other = moved(decoder, DEVICE).model
    assert isinstance(other, PreTrainedModel)
    there = perplexity(other, windows).perplexity
    assert there == pytest.approx(here, rel=1e-5)


@pytest.mark.parametrize("name", ["magnitude", "wanda", "sparsegpt", "swiftprune", "sketched_obs"])
def test_bfloat16_is_proven_and_pruned(name: str) -> None:
    """The walk is compared with the model in its own dtype: this raises where they part."""
    decoder = moved(tiny.decoder("llama"), DEVICE)
    decoder.model.to(torch.bfloat16)
    result = pruned(name, decoder)
    assert {weight.dtype for weight in result.weights.values()} == {torch.bfloat16}
    assert zeros(tiny.decoder("llama"), result) == pytest.approx(0.5, abs=0.02)
