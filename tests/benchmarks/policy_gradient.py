"""Structured pruning on SmolLM2: perplexity of each method, by target, seed and setting.

    python tests/benchmarks/policy_gradient.py --data FOLDER [--methods flip_gradient --seeds 0 1 2]
    python tests/benchmarks/policy_gradient.py --data FOLDER --targets 0.2 \\
        --methods policy_gradient:learning_rate=0.3 flip_gradient:tokens=160000

Learns on calibration.txt beyond its first 32×512 tokens, starts from Wanda-SP's metric on the first
16×512 tokens, is measured on the first 16×512 tokens of test.txt (float32, dense about 36.1).
The loss is that of masked models on the batches they were drawn for, averaged over sixths of the
run. The last column is of the same choice, compensated on the same 16 windows; the perplexity
before it is without, whatever the method's default. What is to be chosen is compared with
--held-out: on 12 windows of calibration.txt behind all of that. Results: policy_gradient.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from common import Bench, arguments, load, method_of, print_environment
from torch import Tensor

from tasks.measures.perplexity.perplexity import perplexity
from tasks.models.next_tokens import mean_loss
from tasks.pruning.core import driver
from tasks.pruning.core.compensation import compensate
from tasks.pruning.core.methods import PruneResult, StructuredMethod
from tasks.pruning.core.registry import parse_target
from tasks.pruning.core.sparsity import layer_sparsity, sparsity
from tasks.pruning.flip_gradient.method import FlipGradient
from tasks.pruning.policy_gradient.method import PolicyGradient
from tasks.pruning.wanda_sp import WandaSP

START, SKIP = 16, 32


METHODS = {
    "wanda_sp": WandaSP(),
    "initialisation": PolicyGradient(steps=0),
    "policy_gradient": PolicyGradient(),
    "prior": FlipGradient(tokens=0),
    "flip_gradient": FlipGradient(),
}


def perplexity_with(bench: Bench, weights: Mapping[str, Tensor]) -> float:
    """The model's, with some weights in place of its own for as long as it takes."""
    original = {name: bench.model.state_dict()[name].clone() for name in weights}
    bench.model.load_state_dict(weights, strict=False)
    measured = perplexity(bench.model, bench.test).perplexity
    bench.model.load_state_dict(original, strict=False)
    return measured


def measure(
    bench: Bench, method: StructuredMethod, target: str, seed: int
) -> tuple[float, float, PruneResult]:
    """(perplexity of the pruned model, the same compensated, what pruning gave)."""
    default = StructuredMethod.compensation_damping
    plain = replace(method, compensation="none", compensation_damping=default)
    result = driver.prune(
        plain,
        bench.decoder,
        parse_target(target),
        seed=seed,
        tokens_NL=bench.calibration[:START],
        training_NL=bench.calibration[SKIP:],
        prefix=len(bench.prefix),
        loss=mean_loss(bench.model),
    )
    assert result.kept is not None
    weights: dict[str, Tensor] = {}
    damping = method.compensation_damping
    compensate(bench.decoder, result.kept, bench.calibration[:START], damping, weights)
    return perplexity_with(bench, result.weights), perplexity_with(bench, weights), result


def curve(history: Any) -> str:
    losses = [step["loss"] for step in history if "loss" in step]
    size = max(1, -(-len(losses) // 6))
    parts = (losses[i : i + size] for i in range(0, len(losses), size))
    return " ".join(f"{sum(part) / len(part):.3f}" for part in parts)


def report(bench: Bench, label: str, method: Any, target: str, seed: int) -> None:
    start = time.perf_counter()
    measured, compensated, result = measure(bench, method, target, seed)
    seconds = time.perf_counter() - start
    layers = layer_sparsity(bench.decoder, result.weights)
    print(
        f"| {target} | {label} | {seed} | {measured:.2f} | {sparsity(bench.decoder, layers):.4f} | "
        f"{result.figures.get('training_tokens', 0):.0f} | {seconds:.0f} | "
        f"{curve(result.history)} | {compensated:.2f} |",
        flush=True,
    )


def main() -> None:
    parser: argparse.ArgumentParser = arguments(__doc__)
    parser.set_defaults(samples=450, windows=16)
    parser.add_argument("--targets", nargs="+", default=["0.1", "0.2", "0.3"])
    told = f"of {', '.join(METHODS)}; with options as NAME:option=value,…"
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help=told)
    parser.add_argument("--held-out", action="store_true", help="measure no test text")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    print_environment()
    bench = load(options)
    if options.held_out:
        bench = replace(bench, test=bench.held_out(options.samples))
    torch.set_grad_enabled(False)
    dense = perplexity(bench.model, bench.test).perplexity
    print(f"dense {dense:.2f}\n")
    print(
        "| target | method | seed | perplexity | sparsity | tokens | seconds | loss | compensated |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    chosen = {name: method_of(name, METHODS) for name in options.methods}
    for target in options.targets:
        for name, method in chosen.items():
            for seed in options.seeds if method.uses_seed else options.seeds[:1]:
                report(bench, name, method, target, seed)


if __name__ == "__main__":
    main()
