"""bfloat16 against float32: perplexity and evaluation speed, in one run.

    python tests/benchmarks/dtype.py --data FOLDER

`dtype: auto` takes bfloat16 only where the hardware has it; the first line says whether this one
has. Results: dtype.md.
"""

from __future__ import annotations

import torch
from common import arguments, load, print_environment

from tasks.measures.perplexity.perplexity import perplexity
from tasks.models.load import resolve_dtype


def main() -> None:
    options = arguments(__doc__).parse_args()
    print_environment()
    auto = str(resolve_dtype("auto", torch.device("cpu"))).removeprefix("torch.")
    print(f"dtype auto is {auto} on this hardware")
    base = None
    for dtype in ("float32", "bfloat16"):
        bench = load(options, dtype)
        perplexity(bench.model, bench.test[:2], batch_size=2)
        result = perplexity(bench.model, bench.test, batch_size=8)
        speed = result.tokens / result.seconds
        base = base or (result.perplexity, speed)
        change = result.perplexity / base[0] - 1
        print(
            f"{dtype:<9} perplexity {result.perplexity:.3f} ({change:+.2%})"
            f"  {speed:.0f} tokens/s ({speed / base[1]:.2f} times float32)",
            flush=True,
        )


if __name__ == "__main__":
    main()
