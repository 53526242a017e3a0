"""What pruning costs on one GPU: an 8B LLaMA's shape with random weights and tokens.

    python tests/benchmarks/gpu.py                # 128×2048 tokens, 32 blocks
    python tests/benchmarks/gpu.py --onload --methods wanda --layers 8    # weights in main memory
    python tests/benchmarks/gpu.py --rehearse     # a tiny shape on the CPU: does it run?

Meant to take under ten minutes on one 80 GB card. Needs torch, transformers and this repository.
Times wait for the device. The bare pass is the same walk through the blocks without collecting
anything: what any calibration must do. Random weights make perplexity meaningless; times and memory
do not depend on their values. Results: gpu.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace

import torch
from common import print_environment
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.models.architecture.decoder import describe
from tasks.pruning.core import driver
from tasks.pruning.core.blocks import BlockAtWork, Decoder, walk
from tasks.pruning.core.methods import LayerMethod, Method
from tasks.pruning.core.registry import parse_target
from tasks.pruning.full_obs import FullOBS
from tasks.pruning.magnitude import Magnitude
from tasks.pruning.sketched_obs.method import SketchedOBS
from tasks.pruning.sparsegpt import SparseGPT
from tasks.pruning.swiftprune.method import SwiftPrune
from tasks.pruning.wanda import Wanda

SHAPE = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
         "max_position_embeddings": 8192, "rope_theta": 500000.0}  # fmt: skip
TINY = SHAPE | {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256}  # fmt: skip
METHODS: dict[str, Method] = {
    method.name: method
    for method in (Magnitude(), Wanda(), SwiftPrune(), SketchedOBS(), FullOBS(), SparseGPT())
}
GOALS = {"wanda": "2.2 bare passes", "swiftprune": "1.3 bare passes", "sparsegpt": "264 s"}


class Discarded(MutableMapping[str, Tensor]):
    """Takes pruned weights and keeps none: a second 8B model would be in the way."""

    def __init__(self) -> None:
        self.taken = 0

    def __setitem__(self, name: str, weight: Tensor) -> None:
        self.taken += weight.numel()

    def __getitem__(self, name: str) -> Tensor:
        raise KeyError(name)

    def __delitem__(self, name: str) -> None:
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@dataclass(frozen=True)
class Spent:
    """Seconds, and the peak of allocated bytes; 0 bytes on the CPU."""

    seconds: float
    peak: int


def spent(device: torch.device, work: Callable[[], object]) -> Spent:
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    work()
    if on_gpu:
        torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() if on_gpu else 0
    return Spent(time.perf_counter() - start, peak)


def random_model(
    shape: dict[str, object], device: torch.device, dtype: torch.dtype = torch.bfloat16
) -> Decoder:
    """Weights as a fresh initialisation has them, made where they are to lie."""
    config = LlamaConfig(**shape, tie_word_embeddings=False)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            torch.manual_seed(0)
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    return describe(model.eval().requires_grad_(False))


def run(
    method: Method, decoder: Decoder, target: str, tokens_NL: Tensor, device: torch.device
) -> None:
    """Statistics and pruning, as a sweep runs them."""
    statistics = None
    if isinstance(method, LayerMethod):
        tokens_NL = tokens_NL[: method.calibration_windows(*tokens_NL.shape)]
        if method.uses_statistics:
            statistics = driver.collect_statistics(
                decoder, tokens_NL, sketch=method.sketch, device=device
            )
    driver.prune(
        method,
        decoder,
        parse_target(target),
        tokens_NL=tokens_NL,
        statistics=statistics,
        device=device,
        into=Discarded(),
    )


def measure(
    methods: Sequence[Method],
    decoder: Decoder,
    tokens_NL: Tensor,
    device: torch.device,
    options: argparse.Namespace,
) -> None:
    def bare() -> None:
        def visit(block: BlockAtWork) -> None:
            block.run()

        walk(decoder, tokens_NL, visit, device=device, batch=options.batch)

    bare()  # proves the walk and warms kernels up
    whole = spent(device, bare)
    count = tokens_NL.numel()
    blocks = len(decoder.blocks)
    print(f"bare pass: {whole.seconds:.2f} s, {count / whole.seconds:,.0f} tokens a second, "
          f"{whole.seconds / blocks:.3f} s a block\n")  # fmt: skip
    print("| method | target | calibration tokens | seconds | s a block | bare passes | tokens/s "
          "| peak GiB | goal |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for method in methods:
        for target in options.targets:
            seen = count
            if isinstance(method, LayerMethod):
                windows = method.calibration_windows(*tokens_NL.shape)
                seen = windows * tokens_NL.shape[1] if method.uses_statistics else 0
            took = spent(device, lambda m=method, t=target: run(m, decoder, t, tokens_NL, device))
            # Against a pass over the tokens that this method sees.
            passes = took.seconds / whole.seconds * count / seen if seen else None
            print(
                f"| {method.name} | {target} | {seen} | {took.seconds:.1f} "
                f"| {took.seconds / blocks:.3f} | {'-' if passes is None else f'{passes:.2f}'} "
                f"| {seen / took.seconds:,.0f} | {took.peak / 2**30:.1f} "
                f"| {GOALS.get(method.name, '')} |",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=128, help="calibration windows")
    parser.add_argument("--length", type=int, default=2048, help="tokens of a window")
    parser.add_argument("--layers", type=int, default=SHAPE["num_hidden_layers"])
    parser.add_argument("--batch", type=int, default=4, help="windows of one forward pass")
    parser.add_argument("--targets", nargs="+", default=["0.5", "2:4"])
    parser.add_argument("--methods", nargs="+", choices=[*METHODS], default=[*METHODS])
    parser.add_argument("--onload", action="store_true", help="weights stay in main memory")
    parser.add_argument("--all-tokens", action="store_true", help="sketched_obs sees all of them")
    parser.add_argument("--rehearse", action="store_true", help="a tiny shape, on the CPU")
    options = parser.parse_args()
    if not (options.rehearse or torch.cuda.is_available()):
        print("there is no GPU (torch.cuda); --rehearse runs the script on the CPU")
        sys.exit(1)
    print_environment()
    if options.rehearse:
        shape, device = dict(TINY), torch.device("cpu")
        options.samples, options.length = min(options.samples, 8), min(options.length, 64)
    else:
        shape, device = SHAPE | {"num_hidden_layers": options.layers}, torch.device("cuda")
    decoder = random_model(shape, device)
    generator = torch.Generator().manual_seed(0)
    size = (options.samples, options.length)
    tokens_NL = torch.randint(0, int(str(shape["vocab_size"])), size, generator=generator)
    methods = [METHODS[name] for name in options.methods]
    if options.all_tokens:
        methods = [
            replace(method, tokens=tokens_NL.numel()) if isinstance(method, SketchedOBS) else method
            for method in methods
        ]
    if options.onload:
        decoder.model.to("cpu")
    measure(methods, decoder, tokens_NL, device, options)


if __name__ == "__main__":
    main()
