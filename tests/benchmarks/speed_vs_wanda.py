"""Pruning by SwiftPrune against Wanda, model already loaded: seconds and perplexity.

    python tests/benchmarks/speed_vs_wanda.py --data FOLDER

Pruning is statistics and selection. The rows say on how many calibration tokens: SwiftPrune's
default needs fewer than Wanda's, and the comparison on the same tokens stands beside it. Methods
alternate within each repetition, so that a noisy machine disturbs them alike. Results:
swiftprune.md.
"""

from __future__ import annotations

import statistics
import time

from common import Bench, arguments, load, print_environment

from tasks.measures.perplexity.perplexity import perplexity
from tasks.pruning.core import driver
from tasks.pruning.core.methods import LayerMethod, Method
from tasks.pruning.core.registry import parse_target
from tasks.pruning.swiftprune.method import SwiftPrune
from tasks.pruning.wanda import Wanda

PAPER = SwiftPrune(
    contribution="weight",
    scale="loss",
    alpha=0.125,
    shrink=0,
    compensation="none",
    tokens=1 << 30,
)
METHODS: dict[str, Method] = {
    "wanda": Wanda(),
    "swiftprune, all tokens": SwiftPrune(tokens=1 << 30),
    "swiftprune (default)": SwiftPrune(),
    "swiftprune as published": PAPER,
}


def prune(bench: Bench, method: Method, target: str) -> tuple[float, dict]:
    """(seconds of statistics and selection, weights)."""
    start = time.perf_counter()
    tokens, statistics_of_dense = bench.calibration, None
    if isinstance(method, LayerMethod):
        tokens = tokens[: method.calibration_windows(*tokens.shape)]
        statistics_of_dense = driver.collect_statistics(bench.decoder, tokens)
    result = driver.prune(
        method,
        bench.decoder,
        parse_target(target),
        tokens_NL=tokens,
        statistics=statistics_of_dense,
    )
    return time.perf_counter() - start, result.weights


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    print_environment()
    bench = load(options)
    original = {name: value.clone() for name, value in bench.model.state_dict().items()}
    print(f"calibration {bench.calibration.numel()} tokens, test {bench.test.numel()} tokens")
    print("method".ljust(26) + "target".rjust(8) + "seconds".rjust(10) + "perplexity".rjust(12)
          + "   times faster than Wanda")  # fmt: skip
    for target in ("0.5", "2:4"):
        times: dict[str, list[float]] = {name: [] for name in METHODS}
        weights = {}
        for _ in range(options.repetitions):
            for name, method in METHODS.items():
                seconds, weights[name] = prune(bench, method, target)
                times[name].append(seconds)
        base = statistics.median(times["wanda"])
        for name in METHODS:
            bench.model.load_state_dict(weights[name], strict=False)
            measured = perplexity(bench.model, bench.test, batch_size=8).perplexity
            bench.model.load_state_dict(original)
            seconds = statistics.median(times[name])
            ratio = base / seconds
            print(
                f"{name:<26}{target:>8}{seconds:>10.2f}{measured:>12.2f}{ratio:>12.2f}", flush=True
            )


if __name__ == "__main__":
    main()
