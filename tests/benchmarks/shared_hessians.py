"""SparseGPT with one Hessian for layers that share their input, against one Hessian a layer.

    python tests/benchmarks/shared_hessians.py --data FOLDER [--blocks 10] [--repetitions 3]

Three variants alternate in one run:

- shared: as `sparsegpt` works;
- one a layer: the same code, but each layer is handed a view of its input, so that none is seen to
  share one: a Hessian, a factor and a sweep for each layer. Weights must be the same bits;
- straightforward: one a layer, and besides the whole product XᵀX instead of its upper panels, the
  factor by way of H⁻¹, and columns passed on over the whole block of 128 instead of strips. Same
  mathematics, so weights differ by rounding.

`second order` is everything but the forward passes. Every block has the same shapes, so the first
few tell the ratios. Results: sparsegpt.md.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from common import Bench, arguments, load, print_environment
from phases import FACTORS, FORWARD, SELECTION, STATISTICS, prune
from torch import Tensor, nn

from tasks.pruning import sparsegpt
from tasks.pruning.core import hessian
from tasks.pruning.core.registry import parse_target
from tasks.pruning.sparsegpt import SparseGPT

PHASES = (STATISTICS, FACTORS, SELECTION, FORWARD)


@contextmanager
def one_a_layer(bench: Bench) -> Iterator[None]:
    def view(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0].view_as(args[0]), *args[1:])

    layers = bench.decoder.layers().values()
    handles = [layer.module.register_forward_pre_hook(view) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def textbook_factor(hessian_II: Tensor, damping: float) -> hessian.InverseFactor:
    mean = hessian_II.diagonal().mean()
    damped_II = hessian_II + damping * mean * torch.eye(len(hessian_II))
    inverse_II = torch.cholesky_inverse(torch.linalg.cholesky(damped_II))
    upper_II = torch.linalg.cholesky(inverse_II, upper=True)
    diagonal_I = upper_II.diagonal()
    return hessian.InverseFactor(upper_II / diagonal_I[:, None], diagonal_I**-2, damping)


@contextmanager
def straightforward(bench: Bench) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(one_a_layer(bench))
        stack.enter_context(patch.object(hessian, "inverse_factor", textbook_factor))
        stack.enter_context(patch.dict(hessian.PANELS, cpu=1 << 20))
        stack.enter_context(patch.object(sparsegpt, "STRIP", 1 << 20))
        yield


@contextmanager
def shared(_: Bench) -> Iterator[None]:
    yield


VARIANTS = {"shared": shared, "one a layer": one_a_layer, "straightforward": straightforward}


def agreement(weights: dict[str, Tensor], others: dict[str, Tensor]) -> str:
    if all(torch.equal(weight, others[name]) for name, weight in weights.items()):
        return "same bits"
    same = sum(int((w.eq(0) == others[n].eq(0)).sum()) for n, w in weights.items())
    return f"{same / sum(w.numel() for w in weights.values()):.3%} of masks agree"


def show(name: str, times: list[Counter[str]], base: list[Counter[str]], told: str) -> None:
    def medians(runs: list[Counter[str]]) -> list[float]:
        return [statistics.median(run[phase] for run in runs) for phase in PHASES]

    def ratio(of: slice) -> float:
        """The median of the repetitions' own ratios: neighbours in time share the noise."""
        pairs = zip(times, base, strict=True)
        return statistics.median(
            sum(t[p] for p in PHASES[of]) / sum(b[p] for p in PHASES[of]) for t, b in pairs
        )

    columns = "".join(f"{seconds:>12.2f}" for seconds in medians(times))
    print(f"{name:<17}{columns}{ratio(slice(3)):>14.2f}{ratio(slice(4)):>8.2f}  {told}", flush=True)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=1000, help="use only so many blocks")
    parser.add_argument("--targets", default="0.5,2:4")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print_environment()
    bench = load(options)
    blocks = bench.model.get_submodule(bench.decoder.blocks_name)
    assert isinstance(blocks, nn.ModuleList)
    del blocks[options.blocks :]
    print(f"{len(blocks)} blocks, {bench.calibration.numel()} tokens; CPU seconds, medians\n")
    heads = "".join(phase.rjust(12) for phase in PHASES)
    for text in options.targets.split(","):
        print(f"{text:<17}{heads}  second order   whole  (times as long as shared)")
        times: dict[str, list[Counter[str]]] = {name: [] for name in VARIANTS}
        weights: dict[str, dict[str, Tensor]] = {}
        for _ in range(options.repetitions):
            for name, variant in VARIANTS.items():
                with variant(bench):
                    seconds, weights[name] = prune(
                        SparseGPT(), bench.decoder, parse_target(text), bench.calibration
                    )
                times[name].append(seconds)
        for name in VARIANTS:
            told = agreement(weights[name], weights["shared"])
            show(name, times[name], times["shared"], told)


if __name__ == "__main__":
    main()
