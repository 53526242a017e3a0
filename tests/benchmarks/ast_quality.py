"""AST on SmolLM2 at 2:4: what ten minutes buy, by learning rate, batch, mask criterion and α.

    python tests/benchmarks/ast_quality.py --data FOLDER --tokens 131072 [--only NAME …]

Trains on `calibration.txt` beyond setting R's calibration windows, and prints perplexity in
setting R (dense 28.14, SparseGPT 92.9) with the tokens and seconds spent. Results: ast.md.
"""

from __future__ import annotations

from dataclasses import replace

from ast_common import all_windows, mean_loss, train
from common import arguments, load, print_environment

from tasks.pruning.ast.method import AdaptiveSparseTrainer

SMALL = AdaptiveSparseTrainer(batch=2, micro_batch=2, learning_rate=1e-4, criterion="activation")
VARIANTS = {
    "activation": SMALL,
    "magnitude": replace(SMALL, criterion="magnitude"),
    "rate-5e-5": replace(SMALL, learning_rate=5e-5),
    "rate-2e-4": replace(SMALL, learning_rate=2e-4),
    "rate-3e-4": replace(SMALL, learning_rate=3e-4),
    "batch-4": replace(SMALL, batch=4),
    "batch-1": replace(SMALL, batch=1, micro_batch=1),
    "alpha-0.33": replace(SMALL, alpha=1 / 3),
    "alpha-0.9": replace(SMALL, alpha=0.9),
    "fixed": replace(SMALL, mask="fixed"),
    "slorb": replace(SMALL, slorb=True),
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tokens", type=int, default=131_072)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    all_windows(parser)
    options = parser.parse_args()
    print_environment()
    bench = load(options)
    print("| variant | rate | batch | alpha | tokens | seconds | tokens/s | ce | perplexity |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.only:
        method = VARIANTS[name]
        steps = max(1, options.tokens // (method.batch * bench.calibration.shape[1]))
        outcome = train(bench, replace(method, steps=steps), test=bench.test)
        figures = outcome.result.figures
        print(
            f"| {name} | {method.learning_rate:g} | {method.batch} | {method.alpha:.2f} "
            f"| {figures['training_tokens']:.0f} | {outcome.seconds:.0f} "
            f"| {figures['tokens_per_second']:.0f} | {mean_loss(outcome.result, 'ce'):.3f} "
            f"| {outcome.perplexity:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
