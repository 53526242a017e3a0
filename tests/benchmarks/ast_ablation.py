"""AST's ablation at small scale: six variants, the same tokens and seeds, the order found.

    python tests/benchmarks/ast_ablation.py --data FOLDER --tokens 65536 --seeds 0 1 2

The paper's order, worst first: naive, no distillation, fixed mask, static decay, AST, AST + SLoRB.
Trains on `calibration.txt` beyond setting R's windows. Prints perplexity in setting R (the same
kind of text) and on the Python reference (another source) as it finds it. Results: ast.md.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import replace

from ast_common import all_windows, mean_loss, train
from common import arguments, load, print_environment

from tasks.data.corpora import read_python_docs
from tasks.measures.perplexity.perplexity import perplexity
from tasks.pruning.ast.method import AdaptiveSparseTrainer

VARIANTS = {
    "naive": {"mask": "fixed", "decay": "none", "distillation": False},
    "no distillation": {"distillation": False},
    "fixed mask": {"mask": "fixed"},
    "static decay": {"decay": "static"},
    "AST": {},
    "AST + SLoRB": {"slorb": True},
}
DIFFERENCES = (
    ("no distillation", "AST"),
    ("naive", "fixed mask"),
    ("fixed mask", "AST"),
    ("static decay", "AST"),
    ("AST", "AST + SLoRB"),
)
"""What the paper puts in this order."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tokens", type=int, default=65_536)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--criterion", choices=["magnitude", "activation"], default="activation")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    all_windows(parser)
    options = parser.parse_args()
    print_environment()
    bench = load(options)
    _, other, _ = read_python_docs("heldout")
    tests = bench.test, bench.windows_of(other, options.windows)
    length = bench.calibration.shape[1]
    base = AdaptiveSparseTrainer(
        steps=max(1, options.tokens // (options.batch * length)),
        batch=options.batch,
        micro_batch=1 if options.device == "cpu" else options.batch,
        learning_rate=options.learning_rate,
        criterion=options.criterion,
    )
    dense = " | ".join(
        f"{perplexity(bench.model, test, batch_size=4).perplexity:.2f}" for test in tests
    )
    print(f"dense: {dense}\n")
    found: dict[str, list[list[float]]] = {}
    print("| variant | seed | ce | kl | last flip rate | seconds | perplexity | Python reference |")
    print("|---|---|---|---|---|---|---|---|")
    for seed, name in itertools.product(options.seeds, options.only):
        method = replace(base, **VARIANTS[name])  # type: ignore[arg-type]
        outcome = train(bench, method, tests=tests, seed=seed, quiet=True)
        found.setdefault(name, []).append(outcome.perplexities)
        result = outcome.result
        print(
            f"| {name} | {seed} | {mean_loss(result, 'ce'):.3f} | {mean_loss(result, 'kl'):.3f} "
            f"| {result.history[-1]['flip_rate']:.4f} | {outcome.seconds:.0f} "
            f"| {' | '.join(f'{value:.2f}' for value in outcome.perplexities)} |",
            flush=True,
        )
    print("\n| variant | perplexity | Python reference |\n|---|---|---|")
    for name, values in found.items():
        print(f"| {name} | {' | '.join(map(told, zip(*values, strict=True)))} |")
    print("\n| worse − better, seed by seed | perplexity | Python reference |\n|---|---|---|")
    for worse, better in DIFFERENCES:
        if {worse, better} <= found.keys():
            pairs = zip(found[worse], found[better], strict=True)
            apart = [[a - b for a, b in zip(*pair, strict=True)] for pair in pairs]
            means = map(told, zip(*apart, strict=True))
            print(f"| {worse} − {better} | {' | '.join(means)} |")


def told(values: Sequence[float]) -> str:
    """Mean ± standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {error:.2f}"


if __name__ == "__main__":
    main()
