"""AST on SmolLM2 at 2:4: what it reaches by learning rate, momentum, mask and length.

    python tests/benchmarks/ast_quality.py --data FOLDER --tokens 61440 163840
    python tests/benchmarks/ast_quality.py --data FOLDER --try learning_rate=3e-4,momentum=corrected

Trains on `calibration.txt` beyond setting R's calibration windows. Prints perplexity in setting R
(the first 32 windows of `test.txt`; dense 28.14, SparseGPT 92.4) and on the next 32: choose
by those, so that what is told was not chosen by. Results: ast.md.
"""

from __future__ import annotations

from dataclasses import replace

from ast_common import all_windows, mean_loss, train
from common import arguments, load, options_of, print_environment

from tasks.pruning.ast.method import AdaptiveSparseTrainer

BASE = AdaptiveSparseTrainer(batch=2, micro_batch=2, learning_rate=1e-4, criterion="activation")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[131_072])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--try", nargs="+", default=[""], dest="tries", metavar="a=1,b=x")
    all_windows(parser)
    parser.set_defaults(windows=64)
    options = parser.parse_args()
    print_environment()
    bench = load(options)
    tests = bench.test[:32], bench.test[32:]
    print("| options | tokens | seed | seconds | tokens/s | ce | perplexity | next windows |")
    print("|---|---|---|---|---|---|---|---|")
    for text in options.tries:
        method = replace(BASE, **options_of(text))
        for tokens in options.tokens:
            steps = max(1, tokens // (method.batch * bench.calibration.shape[1]))
            for seed in options.seeds:
                quiet = options.device != "cpu"
                outcome = train(
                    bench, replace(method, steps=steps), tests=tests, seed=seed, quiet=quiet
                )
                figures = outcome.result.figures
                first, rest = outcome.perplexities
                print(
                    f"| {text or 'none'} | {figures['training_tokens']:.0f} | {seed} "
                    f"| {outcome.seconds:.0f} | {figures['tokens_per_second']:.0f} "
                    f"| {mean_loss(outcome.result, 'ce'):.3f} | {first:.2f} | {rest:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
