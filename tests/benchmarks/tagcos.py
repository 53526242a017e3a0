"""How well coresets stand for a mixed pool, on what they see and on what they do not.

The pool: 80 windows of 32 tokens of SmolLM2-135M's tokenizer, each source spread evenly over its
text: 40 of WikiText-2, 20 of the Python reference, 10 of BLiMP's good sentences, 10 of the standard
library's code. Branches of rank 4 on q, k, v, o of the last ten blocks; six steps of four windows;
checkpoints after three and six; 1 024 dimensions; four clusters.

    python tests/benchmarks/tagcos.py --data FOLDER

FOLDER holds wikitext-2/calibration.txt and blimp/*.jsonl. About two minutes on two cores; features
are kept in the cache, so that the table alone takes seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterable
from pathlib import Path

import torch
from common import print_environment
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs.trust import Trust
from tasks.compression.coresets import branch_places, window_losses
from tasks.data.corpora import read_python_docs
from tasks.data.windows import tokenise, windows_at
from tasks.models.architecture.decoder import describe
from tasks.models.load import load_model, load_tokenizer
from tasks.models.prepare import prepare
from tasks.models.sources.sources import resolve_model
from tasks.selection.coreset.gradients import Warmup, features
from tasks.selection.coreset.lora import Branches, Loss
from tasks.selection.coreset.norms import column_squares
from tasks.selection.coreset.quality import column_norm_error, mean_error, random_error
from tasks.selection.coreset.select import Choice, select
from tasks.selection.positions import evenly, spread

LENGTH, BLOCKS, RANK, DIMENSIONS, CLUSTERS, BATCH = 32, 10, 4, 1024, 4, 16
SHARES = {"wikitext": 40, "python": 20, "blimp": 10, "code": 10}
WARMUP = Warmup(steps=6, checkpoints=2, batch=4, learning_rate=2e-4)
BUDGETS = (8, 16)
SEEDS = range(30)


def texts(data: Path) -> dict[str, str]:
    """Source → its text."""
    sentences = [
        json.loads(line)["sentence_good"]
        for path in sorted((data / "blimp").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    code = sorted(Path(os.__file__).parent.glob("*.py"))[:40]
    return {
        "wikitext": (data / "wikitext-2" / "calibration.txt").read_text(encoding="utf-8"),
        "python": "\n\n".join(read_python_docs("calibration")[1]),
        "blimp": " ".join(sentences),
        "code": "\n\n".join(path.read_text(encoding="utf-8") for path in code),
    }


def measured(data: Path, cache: Path, seed: int) -> dict[str, Tensor]:
    """Features, plain gradients and squares of columns of every window, kept in the cache."""
    kept = cache / f"tagcos-{seed}.safetensors"
    if kept.exists():
        return load_file(kept)
    trust = Trust()
    source = resolve_model(
        "smollm2-135m", field="models", base=Path(), trust=trust, digest_cache=None
    )
    folder = cache / source.digest[:16]
    if not (folder / "tokenizer.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        prepare(source, folder)
    tokenizer = load_tokenizer(folder, trust)
    parts = []
    for name, text in texts(data).items():
        ids_T = tokenise(tokenizer, [text]).ids_T
        parts.append(windows_at(ids_T, spread(len(ids_T), LENGTH, SHARES[name]), LENGTH, ()))
    windows_NL = torch.cat(parts)
    model = load_model(folder, torch.float32, torch.device("cpu"), trust)
    decoder, losses = describe(model), window_losses(model, windows_NL)
    first = len(decoder.blocks) - BLOCKS
    places = {
        name: place
        for name, place in branch_places(decoder).items()
        if int(name.removeprefix(f"{decoder.blocks_name}.").split(".")[0]) >= first
    }
    generator = torch.Generator().manual_seed(seed)
    branches = Branches(places, RANK, generator, torch.device("cpu"))
    begun = time.perf_counter()
    numbers_N = torch.arange(len(windows_NL))
    forward_and_backward(branches, losses, numbers_N)
    bare = time.perf_counter() - begun
    begun = time.perf_counter()
    found = features(
        branches,
        losses,
        numbers_N,
        warmup=WARMUP,
        dimensions=DIMENSIONS,
        form="adam",
        generator=generator,
        seed=seed,
        batch=BATCH,
    )
    took = time.perf_counter() - begun
    passes = WARMUP.checkpoints * len(windows_NL) + WARMUP.steps * WARMUP.batch
    rate, bare_rate = passes * LENGTH / took, windows_NL.numel() / bare
    print(
        f"{branches.size():,} parameters; features {took:.1f} s, {rate:.0f} tokens/s; a bare "
        f"forward and backward pass {bare_rate:.0f} tokens/s ({rate / bare_rate:.0%})\n"
    )
    modules = {name: layer.module for name, layer in decoder.layers().items()}
    squares_NC = column_squares(modules, losses, numbers_N, batch=BATCH)
    tensors = {"x_ND": found.x_ND, "raw_ND": found.raw_ND, "squares_NC": squares_NC}
    save_file(tensors, kept)
    return tensors


def forward_and_backward(branches: Branches, losses: Loss, numbers_N: Tensor) -> None:
    """What autograd alone takes for the sum of all losses."""
    for tensor in branches.parameters():
        tensor.requires_grad_()
    for part_N in numbers_N.split(BATCH):
        with branches.attached():
            torch.autograd.grad(losses(part_N).sum(), branches.parameters())
    for tensor in branches.parameters():
        tensor.requires_grad_(False)


def errors(tensors: dict[str, Tensor], index: Iterable[int]) -> list[float]:
    """Of features, plain gradients and column norms."""
    rows = list(index)
    equal = [1.0] * len(rows)
    return [
        mean_error(tensors["x_ND"], rows, equal),
        mean_error(tensors["raw_ND"], rows, equal),
        column_norm_error(tensors["squares_NC"], rows, equal),
    ]


def choices(count: int) -> dict[str, Choice]:
    """Row of the table → how it is chosen."""

    def choice(method: str, ridge: float = 0.1, repeats: str = "exclude") -> Choice:
        return Choice(
            count=count,
            method=method,  # type: ignore[arg-type]
            clusters=CLUSTERS,
            ridge=ridge,
            repeats=repeats,  # type: ignore[arg-type]
        )

    return {
        "k-means, random inside": choice("stratified"),
        "k-means, nearest to centre": choice("kmeans"),
        "k-means with K = n, medoids": choice("medoids"),
        "pursuit only, ridge 1 (the paper's way)": choice("omp", 1.0, "stop"),
        "pursuit only, ridge 0.1": choice("omp"),
        "TAGCOS, ridge 1 (the paper's way)": choice("tagcos", 1.0, "stop"),
        "TAGCOS, ridge 0.1": choice("tagcos"),
        "TAGCOS, ridge 0.001": choice("tagcos", 0.001),
    }


def random_rows(tensors: dict[str, Tensor], count: int) -> list[str]:
    """Errors of random windows, mean ± standard deviation over the seeds."""
    total = len(tensors["x_ND"])
    drawn = [
        errors(
            tensors,
            torch.randperm(total, generator=torch.Generator().manual_seed(s))[:count].tolist(),
        )
        for s in SEEDS
    ]
    return [
        f"{statistics.mean(column):.4f} ± {statistics.stdev(column):.4f}"
        for column in zip(*drawn, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="wikitext-2/ and blimp/")
    parser.add_argument("--cache", type=Path, default=Path("outputs/benchmarks"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    print_environment()
    tensors = measured(options.data, options.cache, options.seed)
    total = len(tensors["x_ND"])
    for count in BUDGETS:
        print(
            f"| n = {count} of {total} | feature error | raw-gradient error | column-norm error |"
        )
        print("|---|---|---|---|")
        closed = [random_error(tensors[name], count) for name in ("x_ND", "raw_ND")]
        rows = {
            "random, closed form": [f"{value:.4f}" for value in closed] + [""],
            f"random, {len(SEEDS)} seeds": random_rows(tensors, count),
            "contiguous (all WikiText)": [f"{e:.4f}" for e in errors(tensors, range(count))],
            "spread": [f"{e:.4f}" for e in errors(tensors, evenly(total, count).tolist())],
        }
        for name, choice in choices(count).items():
            generator = torch.Generator().manual_seed(options.seed)
            index = select(tensors["x_ND"], choice, generator).index
            rows[name] = [f"{error:.4f}" for error in errors(tensors, index)]
        for name, cells in rows.items():
            print(f"| {name} | {' | '.join(cells)} |")
        print()


if __name__ == "__main__":
    main()
