"""Selecting half of a matrix: SwiftPrune's scan against torch.sort, topk and kthvalue.

    python tests/benchmarks/selection.py [--threads 1]

All select the lower half of each row of the same float32 scores; the scan includes its threshold
search. Results: swiftprune.md.
"""

from __future__ import annotations

import argparse

import torch
from common import median_seconds, print_environment

from tasks.pruning.core import masks
from tasks.pruning.swiftprune import ewma
from tasks.pruning.swiftprune.method import SwiftPrune

RATE = SwiftPrune().alpha
SHAPES = ((576, 576), (1536, 576), (576, 1536), (4096, 4096), (4096, 14336))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    print_environment()
    names = ("sort", "topk", "kthvalue", "masks (exact)", "scan")
    print("matrix".ljust(14) + "".join(name.rjust(15) for name in names) + "   sort / scan")
    for rows, columns in SHAPES:
        generator = torch.Generator().manual_seed(0)
        scores = torch.randn(rows, columns, generator=generator).abs()
        half = columns // 2
        works = (
            lambda s=scores: s.sort(dim=1),
            lambda s=scores, k=half: s.topk(k, dim=1, largest=False, sorted=False),
            lambda s=scores, k=half: s <= s.kthvalue(k, dim=1, keepdim=True).values,
            lambda s=scores: masks.lowest_per_row(s, 0.5),
            lambda s=scores, g=generator: ewma.select(s, 0.5, RATE, g),
        )
        seconds = [median_seconds(work, 3 if rows * columns > 1e7 else 9) for work in works]
        shown = "".join(f"{1000 * value:12.1f} ms" for value in seconds)
        print(f"{rows}x{columns}".ljust(14) + shown + f"{seconds[0] / seconds[-1]:14.2f}")


if __name__ == "__main__":
    main()
