"""Evaluation's tokens a second against the bare forward pass plus loss.

    python tests/benchmarks/evaluation_speed.py --data FOLDER --windows 8

The bare pass is the model's own forward on each batch and one cross-entropy of its float32 logits:
no total by window, no bound on memory, nothing compared. `perplexity` is what evaluates the dense
model, `with states` writes its hidden states as well, and `with agreement` compares with them as
the evaluation of a pruned model does; the model compared is the dense one itself. Works alternate
within each repetition, in an order that turns; a ratio is the median over the repetitions of that
within one. Results: evaluation_speed.md.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from common import Bench, arguments, load, print_environment
from torch.nn import functional

from tasks.measures.perplexity.reference import Reference
from tasks.measures.perplexity.run import evaluate_windows

BARE = "bare"


def bare(bench: Bench, batch_size: int) -> float:
    """Seconds of forward passes and losses."""
    start = time.perf_counter()
    total = 0.0
    with torch.inference_mode():
        for batch_BL in bench.test.long().split(batch_size):
            logits_BLV = bench.model(input_ids=batch_BL, use_cache=False).logits
            logits_TV = logits_BLV[:, :-1].flatten(0, 1).float()
            total += float(
                functional.cross_entropy(logits_TV, batch_BL[:, 1:].flatten(), reduction="sum")
            )
    return time.perf_counter() - start


def works(bench: Bench, batch_size: int, scratch: Path) -> dict[str, Callable[[], float]]:
    """Name → does it, in seconds."""
    folder = scratch / "dense"
    bench.model.generation_config = type(bench.model.generation_config)()
    bench.model.save_pretrained(folder)
    reference = Reference(scratch / "states", folder)

    def evaluated(**options: object) -> float:
        result = evaluate_windows(
            bench.model,
            bench.test,
            scratch=scratch,
            device=torch.device("cpu"),
            batch_size=batch_size,
            **options,  # type: ignore[arg-type]
        )
        assert "reference" not in options or result.top1_agreement == 1.0
        return result.seconds

    return {
        BARE: lambda: bare(bench, batch_size),
        "perplexity": evaluated,
        "with states": lambda: evaluated(write_reference=reference.folder),
        "with agreement": lambda: evaluated(reference=reference),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    options = parser.parse_args()
    print_environment()
    for dtype in options.dtypes:
        bench = load(options, dtype)
        tokens = bench.test.numel()
        with tempfile.TemporaryDirectory() as name:
            todo = works(bench, options.batch_size, Path(name))
            seconds: dict[str, list[float]] = {work: [] for work in todo}
            for repetition in range(options.repetitions + 1):
                names = list(todo)
                # The first warms up, in the order in which states are written before they are read.
                turn = repetition % len(names)
                for work in names[turn:] + names[:turn]:
                    took = todo[work]()
                    if repetition:
                        seconds[work].append(took)
        print(f"{dtype}, {len(bench.test)} windows of 512 tokens, batch {options.batch_size}")
        print("work              tokens/s   of bare: median (lowest, highest)")
        for work, took in seconds.items():
            ratios = [b / t for b, t in zip(seconds[BARE], took, strict=True)]
            print(
                f"{work:<16}{tokens / statistics.median(took):>10.0f}   "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
            )


if __name__ == "__main__":
    main()
