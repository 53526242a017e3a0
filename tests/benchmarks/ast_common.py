"""What the AST benchmarks share: training windows, a retrained model's perplexity."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from common import Bench
from torch import Tensor

from tasks.measures.perplexity.perplexity import perplexity
from tasks.models.saved.branches import attach_branches, detach_branches, save_branches
from tasks.pruning.ast.method import AdaptiveSparseTrainer
from tasks.pruning.core.methods import PruneResult
from tasks.pruning.core.targets import SemiStructured
from tasks.training.run import retrain

CALIBRATION_WINDOWS = 32
"""Of 512 tokens: what setting R calibrates on, and training leaves out."""


@dataclass(frozen=True)
class Outcome:
    """One training run."""

    result: PruneResult
    perplexities: list[float]
    seconds: float


def training_windows(bench: Bench) -> Tensor:
    """The windows of `calibration.txt` beyond setting R's."""
    return bench.calibration[CALIBRATION_WINDOWS:]


def train(
    bench: Bench,
    method: AdaptiveSparseTrainer,
    *,
    tests: Sequence[Tensor],
    seed: int = 0,
    quiet: bool = False,
) -> Outcome:
    """Retrain to 2:4 and evaluate on each text; the bench's model is as before afterwards."""
    begun = time.perf_counter()

    def tell(done: int, total: int) -> None:
        if not quiet:
            print(f"\r  step {done} of {total}", end="", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        result = retrain(
            bench.model,
            bench.decoder,
            method,
            SemiStructured(2, 4),
            training_windows(bench),
            seed=seed,
            processes=1,
            scratch=Path(folder),
            progress=tell,
        )
        seconds = time.perf_counter() - begun
        print("\r", end="")
        return Outcome(result, evaluate(bench, result, tests, Path(folder)), seconds)


def evaluate(
    bench: Bench, result: PruneResult, tests: Sequence[Tensor], folder: Path
) -> list[float]:
    """Perplexity of a result on each text's windows, side branches included."""
    before = {name: value.clone() for name, value in bench.model.state_dict().items()}
    try:
        bench.model.load_state_dict(result.weights, strict=False)
        if result.branches:
            save_branches(folder, result.branches)
            attach_branches(bench.model, folder)
        return [perplexity(bench.model, test, batch_size=4).perplexity for test in tests]
    finally:
        detach_branches(bench.model)
        bench.model.load_state_dict(before)


def mean_loss(result: PruneResult, kind: str, last: int = 10) -> float:
    """Mean of the last steps' ``ce`` or ``kl``."""
    values = [entry[kind] for entry in result.history[-last:]]
    return float(torch.tensor(values).mean())


def all_windows(parser: argparse.ArgumentParser) -> None:
    """Load as many calibration windows as the text holds."""
    parser.set_defaults(samples=None)
