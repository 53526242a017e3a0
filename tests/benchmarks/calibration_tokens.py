"""SwiftPrune's perplexity against the number of calibration tokens, 512 to 16 384.

    python tests/benchmarks/calibration_tokens.py --data FOLDER

Results and the choice of the default: swiftprune.md.
"""

from __future__ import annotations

from common import arguments, load, print_environment

from tasks.measures.perplexity.perplexity import perplexity
from tasks.pruning.core import driver
from tasks.pruning.core.registry import parse_target
from tasks.pruning.swiftprune.method import SwiftPrune

VARIANTS = {
    "default": SwiftPrune(tokens=1 << 30),
}


def main() -> None:
    options = arguments(__doc__).parse_args()
    print_environment()
    bench = load(options)
    original = {name: value.clone() for name, value in bench.model.state_dict().items()}
    print(
        "tokens".rjust(8)
        + "".join(f"{name} {t}".rjust(30) for name in VARIANTS for t in ("0.5", "2:4"))
    )
    for count in (1, 2, 4, 8, 16, 32):
        if count > options.samples:
            break
        statistics = driver.collect_statistics(bench.decoder, bench.calibration[:count])
        line = f"{count * 512:>8}"
        for method in VARIANTS.values():
            for target in ("0.5", "2:4"):
                result = driver.prune(
                    method, bench.decoder, parse_target(target), statistics=statistics
                )
                bench.model.load_state_dict(result.weights, strict=False)
                value = perplexity(bench.model, bench.test, batch_size=8).perplexity
                bench.model.load_state_dict(original)
                line += f"{value:>30.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
