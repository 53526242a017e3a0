"""How far SparseGPT's float32 factors are from float64's, on SmolLM2's own inputs.

    python tests/benchmarks/factor_precision.py --data FOLDER [--blocks 6]

For each input of each block of the dense model: the condition number of the damped Hessian, the
largest relative deviation of a pivot, and that of the rows (Frobenius). Results: sparsegpt.md.
"""

from __future__ import annotations

import torch
from common import arguments, load, print_environment
from torch import nn

from tasks.pruning.core.blocks import BlockAtWork, walk
from tasks.pruning.core.hessian import Hessian, inverse_factor
from tasks.pruning.sparsegpt import SparseGPT


def show(block: BlockAtWork) -> None:
    damping = SparseGPT().damping
    collected = block.collect(lambda width, device: Hessian(width, device, damping))
    for name, collector in {id(c): (n, c) for n, c in collected.items()}.values():
        hessian_II = collector.hessian().double()
        factor = collector.factor
        values = torch.linalg.eigvalsh(hessian_II)
        exact = inverse_factor(hessian_II, damping)
        extra = damping * values.mean()
        condition = float((values[-1] + extra) / (values[0] + extra))
        pivots = float((factor.pivot_I / exact.pivot_I - 1).abs().max())
        rows = float((factor.rows_II - exact.rows_II).norm() / exact.rows_II.norm())
        print(f"{block.name}.{name}".ljust(40) + f"{condition:>12.3g}{pivots:>12.2g}{rows:>12.2g}")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--blocks", type=int, default=1000, help="use only so many blocks")
    options = parser.parse_args()
    print_environment()
    bench = load(options)
    blocks = bench.model.get_submodule(bench.decoder.blocks_name)
    assert isinstance(blocks, nn.ModuleList)
    del blocks[options.blocks :]
    print("input".ljust(40) + "condition".rjust(12) + "pivots".rjust(12) + "rows".rjust(12))
    walk(bench.decoder, bench.calibration, show)


if __name__ == "__main__":
    main()
