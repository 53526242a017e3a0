"""The comparison of SwiftPrune's paper: SwiftPrune against SparseGPT and Wanda.

    python tests/benchmarks/swiftprune_vs_sparsegpt.py --data FOLDER

The paper (arXiv 2501.16376) says 12.29 times faster on average. Two ratios are printed for each:

- whole: all CPU seconds of pruning a loaded model, forward passes over the calibration windows
  included: what a user waits for;
- without forward passes: statistics, factors, scores, selection and updates only. Nobody can prune
  without the forward passes; this isolates the methods' own arithmetic.

And each on two calibrations: SwiftPrune at its default, which uses 8192 tokens of those given, and
on the same tokens as the others. Methods alternate, so that a noisy machine disturbs them alike.
Results: sparsegpt.md.
"""

from __future__ import annotations

import statistics
from collections import Counter

import torch
from common import arguments, load, print_environment
from phases import FACTORS, FORWARD, SELECTION, STATISTICS, prune

from tasks.measures.perplexity.perplexity import perplexity
from tasks.pruning.core.methods import Method
from tasks.pruning.core.registry import parse_target
from tasks.pruning.sparsegpt import SparseGPT
from tasks.pruning.swiftprune.method import SwiftPrune
from tasks.pruning.wanda import Wanda

DEFAULT, SAME = "swiftprune, default", "swiftprune, same tokens"
PUBLISHED = "swiftprune as published"
METHODS: dict[str, Method] = {
    "sparsegpt": SparseGPT(),
    "wanda": Wanda(),
    DEFAULT: SwiftPrune(),
    SAME: SwiftPrune(tokens=1 << 30),
    PUBLISHED: SwiftPrune(
        contribution="weight",
        scale="loss",
        alpha=0.125,
        shrink=0,
        compensation="none",
        tokens=1 << 30,
    ),
}
PAPER = 12.29


def whole(seconds: Counter[str]) -> float:
    return sum(seconds.values())


def own(seconds: Counter[str]) -> float:
    return whole(seconds) - seconds[FORWARD]


def show_ratios(times: dict[str, list[Counter[str]]], told: str) -> None:
    print(f"\ntimes faster than   {'whole':>28}{'without forward passes':>28}   ({told})")
    for other in ("sparsegpt", "wanda"):
        for name in (DEFAULT, SAME, PUBLISHED):
            pairs = list(zip(times[other], times[name], strict=True))
            line = f"{name} vs {other}".ljust(38)
            for part in (whole, own):
                ratio = statistics.median(part(a) / part(b) for a, b in pairs)
                said = f" ({'above' if ratio > PAPER else 'below'} {PAPER})"
                line += f"{ratio:>10.2f}" + (said if other == "sparsegpt" else "")
            print(line)
    print(flush=True)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repetitions", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_environment()
    bench = load(options)
    original = {name: value.clone() for name, value in bench.model.state_dict().items()}
    print(f"calibration {bench.calibration.numel()} tokens, test {bench.test.numel()} tokens")
    phases = (FORWARD, STATISTICS, FACTORS, SELECTION)
    for target in ("0.5", "2:4"):
        times: dict[str, list[Counter[str]]] = {name: [] for name in METHODS}
        weights = {}
        for _ in range(options.repetitions):
            for name, method in METHODS.items():
                seconds, weights[name] = prune(
                    method, bench.decoder, parse_target(target), bench.calibration
                )
                times[name].append(seconds)
        heads = "".join(phase.rjust(12) for phase in (*phases, "whole", "perplexity"))
        print(f"\n{target:<26}{heads}   (CPU seconds, medians)")
        for name in METHODS:
            bench.model.load_state_dict(weights[name], strict=False)
            measured = perplexity(bench.model, bench.test, batch_size=8).perplexity
            bench.model.load_state_dict(original)
            columns = [statistics.median(run[phase] for run in times[name]) for phase in phases]
            columns += [statistics.median(map(whole, times[name])), measured]
            print(f"{name:<26}" + "".join(f"{value:>12.2f}" for value in columns), flush=True)
        show_ratios(times, f"target {target}")


if __name__ == "__main__":
    main()
