"""SwiftPrune's options one by one: the table behind its defaults, negative results included.

    python tests/benchmarks/swiftprune_variants.py --data FOLDER --windows 8

Each line changes the default in what it names. Results: swiftprune.md.
"""

from __future__ import annotations

from typing import Any

from common import arguments, load, print_environment

from tasks.measures.perplexity.perplexity import perplexity
from tasks.pruning.core import driver
from tasks.pruning.core.registry import parse_target
from tasks.pruning.swiftprune.method import SwiftPrune

PLAIN: dict[str, Any] = {"compensation": "none", "shrink": 0.0}
PAPER = PLAIN | {"contribution": "weight", "scale": "loss", "alpha": 0.125}
OUTPUT = PLAIN | {"contribution": "output"}
VARIANTS: list[tuple[str, dict[str, Any], str]] = [
    ("default", {}, "both"),
    ("as published", PAPER, "0.5"),
    ("as published, exact", PAPER | {"selection": "exact"}, "both"),
    ("output, exact, no compensation", OUTPUT | {"selection": "exact"}, "both"),
    *(
        (f"output, scan of the {scale}, alpha 1/{memory}",
         OUTPUT | {"scale": scale, "alpha": 1 / memory}, "0.5")
        for scale, memory in (("loss", 8), ("root", 8), ("root", 128), ("fourth-root", 128))
    ),
    ("output with compensation", {"contribution": "output"}, "both"),
    ("means without compensation", {"compensation": "none"}, "both"),
    ("exact selection", {"selection": "exact"}, "0.5"),
    ("shrink 0", {"shrink": 0.0}, "0.5"),
    ("shrink 0.5", {"shrink": 0.5}, "0.5"),
    ("alpha 1/8", {"alpha": 1 / 8}, "0.5"),
    ("alpha 1/512", {"alpha": 1 / 512}, "0.5"),
    ("scan of the root", {"scale": "root"}, "0.5"),
    ("exponent 1 (OBS)", {"exponent": 1.0}, "both"),
    ("exponent 0.7", {"exponent": 0.7}, "both"),
    ("rescale 0", {"rescale": 0.0}, "both"),
    ("rescale 1", {"rescale": 1.0}, "both"),
    ("first_weight 1/512 (as it comes)", {"first_weight": 1 / 512}, "both"),
    ("first_weight 0.2", {"first_weight": 0.2}, "both"),
    ("ridge 0", {"ridge": 0.0}, "both"),
    ("ridge 0.1", {"ridge": 0.1}, "both"),
]  # fmt: skip


def main() -> None:
    options = arguments(__doc__).parse_args()
    print_environment()
    bench = load(options)
    original = {name: value.clone() for name, value in bench.model.state_dict().items()}
    print(f"calibration {SwiftPrune().tokens} tokens, test {bench.test.numel()} tokens")
    dense = perplexity(bench.model, bench.test, batch_size=4).perplexity
    print(f"{'dense':<44}{dense:>10.2f}")
    windows = SwiftPrune().calibration_windows(*bench.calibration.shape)
    statistics = driver.collect_statistics(bench.decoder, bench.calibration[:windows])
    print(f"{'':<44}{'0.5':>10}{'2:4':>10}")
    for name, changes, targets in VARIANTS:
        line = f"{name:<44}"
        for target in ("0.5", "2:4"):
            if targets not in ("both", target):
                line += f"{'':>10}"
                continue
            method = SwiftPrune(**changes)
            result = driver.prune(
                method, bench.decoder, parse_target(target), statistics=statistics
            )
            bench.model.load_state_dict(result.weights, strict=False)
            value = perplexity(bench.model, bench.test, batch_size=4).perplexity
            bench.model.load_state_dict(original)
            line += f"{value:>10.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
