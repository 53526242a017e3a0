"""Where the time goes as models get wider: one block of a large model's shape on a CPU, by phase.

    python tests/benchmarks/width.py                       # LLaMA-2-7B's block, 1 024 tokens
    python tests/benchmarks/width.py --shapes 70b --targets 0.5

Random weights and tokens, float32, processor seconds of one thread. Forward passes and statistics
grow with the tokens, factors and selection do not: the last columns say what follows for all blocks
with each method's own number of tokens. That is an extrapolation. SparseGPT and Wanda pass every
block but the last a second time, once it is pruned; that is added, for one block alone is the last.
Results: sketched_obs.md.
"""

from __future__ import annotations

import argparse
import gc

import torch
from common import print_environment
from gpu import SHAPE, random_model
from phases import FACTORS, FORWARD, SELECTION, STATISTICS, prune

from tasks.pruning.core.blocks import walk
from tasks.pruning.core.methods import BlockMethod, Method
from tasks.pruning.core.registry import parse_target
from tasks.pruning.full_obs import FullOBS
from tasks.pruning.sketched_obs.method import SketchedOBS
from tasks.pruning.sparsegpt import SparseGPT
from tasks.pruning.swiftprune.method import SwiftPrune
from tasks.pruning.wanda import Wanda

ALL = 1 << 30
SMALL = SHAPE | {"num_hidden_layers": 1, "vocab_size": 256}
SHAPES = {
    "7b": (32, SMALL | {"intermediate_size": 11008, "num_key_value_heads": 32}),
    "70b": (80, SMALL | {"hidden_size": 8192, "intermediate_size": 28672,
                         "num_attention_heads": 64}),
}  # fmt: skip
"""Name → (blocks of the whole model, the shape of a model with one)."""
METHODS: dict[str, tuple[Method, int]] = {
    "sparsegpt": (SparseGPT(), 16384),
    "wanda": (Wanda(), 16384),
    "swiftprune": (SwiftPrune(), 16384),
    "sketched_obs": (SketchedOBS(tokens=ALL), 8192),
    "sketched-fast": (SketchedOBS(tokens=ALL, directions=32, oversampling=4), 1024),
    "full_obs": (FullOBS(), 8192),
}
"""Name → (method, the calibration tokens that it takes in setting R)."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", nargs="+", choices=list(SHAPES), default=["7b"])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--targets", nargs="+", default=["0.5", "2:4"])
    parser.add_argument("--tokens", type=int, default=1024)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_environment()
    for shape in options.shapes:
        blocks, settings = SHAPES[shape]
        decoder = random_model(settings, torch.device("cpu"), torch.float32)
        tokens_NL = torch.randint(
            256, (options.tokens // 512, 512), generator=torch.Generator().manual_seed(0)
        )
        walk(decoder, tokens_NL, lambda block: block.run())  # proves the walk, once
        print(f"\n| {shape}, {options.tokens} tokens | target | forward | statistics | factors "
              f"| selection | own tokens | all {blocks} blocks | times faster |\n"
              "|---|---|---|---|---|---|---|---|---|")  # fmt: skip
        slowest: dict[str, float] = {}
        for name in options.methods:
            method, own = METHODS[name]
            for target in options.targets:
                spent, _ = prune(method, decoder, parse_target(target), tokens_NL)
                passes = 2 * blocks - 1 if isinstance(method, BlockMethod) else blocks
                grows = passes * spent[FORWARD] + blocks * spent[STATISTICS]
                fixed = blocks * (spent[FACTORS] + spent[SELECTION])
                whole = grows * own / options.tokens + fixed
                phases = " | ".join(
                    f"{spent[phase]:.1f}" for phase in (FORWARD, STATISTICS, FACTORS, SELECTION)
                )
                faster = slowest.setdefault(target, whole) / whole
                print(f"| {name} | {target} | {phases} | {own} | {whole:.0f} | {faster:.1f} |",
                      flush=True)  # fmt: skip
        del decoder
        gc.collect()


if __name__ == "__main__":
    main()
