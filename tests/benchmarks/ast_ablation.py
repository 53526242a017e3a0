"""AST's ablation at small scale: six variants, the same tokens, the order found.

    python tests/benchmarks/ast_ablation.py --data FOLDER --tokens 65536

The paper's order, worst first: naive, no distillation, fixed mask, static decay, AST, AST + SLoRB.
Prints perplexity in setting R as it finds it. Results: ast.md.
"""

from __future__ import annotations

from dataclasses import replace

from ast_common import all_windows, mean_loss, train
from common import arguments, load, print_environment

from tasks.pruning.ast.method import AdaptiveSparseTrainer

VARIANTS = {
    "naive": {"mask": "fixed", "decay": "none", "distillation": False},
    "no distillation": {"distillation": False},
    "fixed mask": {"mask": "fixed"},
    "static decay": {"decay": "static"},
    "AST": {},
    "AST + SLoRB": {"slorb": True},
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tokens", type=int, default=65_536)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    all_windows(parser)
    options = parser.parse_args()
    print_environment()
    bench = load(options)
    length = bench.calibration.shape[1]
    base = AdaptiveSparseTrainer(
        steps=max(1, options.tokens // (options.batch * length)),
        batch=options.batch,
        micro_batch=1,
        learning_rate=options.learning_rate,
    )
    found: dict[str, float] = {}
    print("| variant | options | ce | kl | last flip rate | seconds | perplexity |")
    print("|---|---|---|---|---|---|---|")
    for name in options.only:
        method = replace(base, **VARIANTS[name])  # type: ignore[arg-type]
        outcome = train(bench, method, test=bench.test, quiet=True)
        found[name] = outcome.perplexity
        result = outcome.result
        said = ", ".join(f"{key}: {value}" for key, value in VARIANTS[name].items()) or "default"
        print(
            f"| {name} | {said} | {mean_loss(result, 'ce'):.3f} | {mean_loss(result, 'kl'):.3f} "
            f"| {result.history[-1]['flip_rate']:.4f} | {outcome.seconds:.0f} "
            f"| {outcome.perplexity:.2f} |",
            flush=True,
        )
    order = sorted(found, key=lambda name: -found[name])
    print(f"\norder found, worst first: {' > '.join(order)}")
    print(f"the paper's:              {' > '.join(name for name in VARIANTS if name in found)}")


if __name__ == "__main__":
    main()
