"""Every method on a GPU against the CPU's result, and what only a GPU can run.

    pytest tests/gpu

Needs torch, transformers, accelerate, safetensors and this repository. Where there is no GPU all of
it is skipped; SECATEUR_GPU_REHEARSAL=1 runs it on the CPU, which shows that the suite itself works.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import tiny
import torch
from support.contract import METHODS, made, sketch_of, target_of
from transformers import PreTrainedModel

from tasks.measures.perplexity.perplexity import perplexity
from tasks.pruning import sparsegpt
from tasks.pruning.core import driver, masks
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.hessian import Hessian
from tasks.pruning.core.methods import PruneResult
from tasks.pruning.core.registry import parse_target
from tasks.pruning.core.replay import Replayed
from tasks.pruning.core.sparsity import layer_sparsity, sparsity
from tasks.pruning.core.statistics import ColumnCollector
from tasks.pruning.sparsegpt import SparseGPT

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
    sparsegpt._replayed.cache_clear()  # so that graphs are captured beside the thread that copies
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


@pytest.mark.parametrize("target", ["0.3", "2:4", "1:4"])
@pytest.mark.parametrize("across", ["row", "layer"])
def test_masks_are_the_cpus(target: str, across: str) -> None:
    """Scores that tie nowhere, in few rows and in many."""
    for rows in (4, 300):
        order = torch.randperm(rows * 64, generator=torch.Generator().manual_seed(rows))
        scores_OI = order.view(rows, 64).float()
        here = masks.lowest(scores_OI, parse_target(target), across=across)
        there = masks.lowest(scores_OI.to(DEVICE), parse_target(target), across=across)
        assert there.cpu().equal(here)


def test_of_equal_scores_the_first_of_a_group_goes() -> None:
    mask = masks.lowest_of_groups(torch.ones(3, 8, device=DEVICE), 2, 4)
    assert mask.sum(dim=1).tolist() == [4, 4, 4]
    if not REHEARSAL:  # topk's choice on a CPU
        assert mask[0].tolist() == [True, True, False, False] * 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_hessian_of_16_bits_is_the_float32_sum(dtype: torch.dtype) -> None:
    """Wider than a panel. Products of 16 bits are exact, so only the sums' rounding is left."""
    inputs_NLI = torch.randn(3, 50, 2100, generator=torch.Generator().manual_seed(0)).to(dtype)
    collector = Hessian(2100, DEVICE, 0.01)
    for batch in inputs_NLI.split(2):
        collector.add(batch.to(DEVICE))
    inputs_TI = inputs_NLI.flatten(0, 1).double()
    expected = 2 * inputs_TI.T @ inputs_TI / len(inputs_TI)
    assert torch.allclose(collector.hessian().cpu().double(), expected, atol=2e-6, rtol=1e-5)


def test_tf32_is_taken_where_asked_and_left_as_it_was() -> None:
    inputs_NLI = torch.randn(2, 64, 256, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    exact, rounded = Hessian(256, DEVICE, 0.01), Hessian(256, DEVICE, 0.01, tf32=True)
    exact.add(inputs_NLI)
    rounded.add(inputs_NLI)
    assert not torch.backends.cuda.matmul.allow_tf32
    away = (exact.hessian() - rounded.hessian()).abs().max()
    assert away < 1e-2 and (REHEARSAL or away > 1e-6)


def test_a_sweep_of_columns_is_the_cpus() -> None:
    """A CUDA graph of a strip, an uneven last strip, several layers side by side."""
    generator = torch.Generator().manual_seed(0)
    inputs_NLI = torch.randn(4, 64, 200, generator=generator)
    weights = {"a": torch.randn(40, 200, generator=generator), "b": torch.randn(24, 200)}
    for target in ("0.5", "2:4"):
        results = []
        for device in (torch.device("cpu"), DEVICE):
            collector = SparseGPT(block_size=72).collector(200, device)
            collector.add(inputs_NLI.to(device))
            given = {name: weight.to(device) for name, weight in weights.items()}
            found = SparseGPT(block_size=72).prune_layers(
                given, collector, parse_target(target), generator
            )
            results.append({name: weight.cpu() for name, weight in found.items()})
        for name in weights:
            assert torch.allclose(results[0][name], results[1][name], atol=1e-3)


@pytest.mark.skipif(REHEARSAL, reason="graphs are CUDA's")
def test_a_graph_is_captured_while_a_thread_pins_and_copies() -> None:
    """As the next block's weights come: its calls must neither end the capture nor fail for it."""
    over, copied = threading.Event(), threading.Event()

    def bring() -> None:
        pinned: list[torch.Tensor] = []  # held, so that others have to be allocated
        with torch.cuda.stream(torch.cuda.Stream(DEVICE)):
            while not over.is_set():
                pinned.append(torch.ones(1024).pin_memory())
                pinned[-1].to(DEVICE, non_blocking=True)
                copied.set()
                if len(pinned) == 1000:
                    pinned.clear()

    def count_(tensor: torch.Tensor) -> None:
        for _ in range(100):
            tensor.add_(1)

    with ThreadPoolExecutor(1) as pool:
        bringing = pool.submit(bring)
        try:
            assert copied.wait(60)
            for size in range(1, 33):
                counted = torch.zeros(size, device=DEVICE)
                Replayed(count_, [counted])([counted], [0])
                assert counted.eq(100).all()
        finally:
            over.set()
        bringing.result(60)


def test_statistics_of_16_bits_are_the_float32_sums() -> None:
    inputs_NLI = torch.randn(3, 50, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    collector = ColumnCollector(64, DEVICE)
    collector.add(inputs_NLI.to(DEVICE))
    found = collector.result()
    rest_TI = inputs_NLI[:, 1:].double().flatten(0, 1)
    assert torch.allclose(found.rest_energy_I.cpu().double(), rest_TI.square().sum(0), rtol=1e-5)
    assert torch.allclose(found.rest_sum_I.cpu().double(), rest_TI.sum(0), atol=1e-4)
    first_NI = inputs_NLI[:, 0].double()
    assert torch.allclose(found.first_energy_I.cpu().double(), first_NI.square().sum(0), rtol=1e-5)


@pytest.mark.parametrize("name", ["magnitude", "wanda", "sparsegpt", "swiftprune", "sketched_obs"])
def test_bfloat16_is_proven_and_pruned(name: str) -> None:
    """The walk is compared with the model in its own dtype: this raises where they part."""
    decoder = moved(tiny.decoder("llama"), DEVICE)
    decoder.model.to(torch.bfloat16)
    result = pruned(name, decoder)
    assert {weight.dtype for weight in result.weights.values()} == {torch.bfloat16}
    assert zeros(tiny.decoder("llama"), result) == pytest.approx(0.5, abs=0.02)
