"""Speed, memory and size of SmolLM2 dense, masked 2:4 and sliced by 0.3, in one run.

    OMP_NUM_THREADS=2 python tests/benchmarks/speed_forms.py --data FOLDER

Whole requests (512 tokens of prompt, 32 of decoding, batch 1), as ``measure_speed`` times them. The
forms alternate within each repetition, in an order that turns; ``times dense`` is the median of the
ratios within a repetition, so that a machine shared with other jobs disturbs all alike. Peak memory
is of the same requests in a process of its own that loads that form alone. Results: speed_forms.md.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import arguments, load, print_environment
from sliced_speed import random_kept, turned
from transformers import PreTrainedModel
from weight_bytes import bytes_on_disk, packed_bytes

from tasks.measures.speed.generation import Request, random_prompt, timed_request
from tasks.measures.speed.timing import SpeedResult, measure_speed, summarise
from tasks.models.architecture.decoder import describe
from tasks.models.placement import added, counts_by_name
from tasks.models.saved.compact import compact_
from tasks.models.saved.pruned import load_pruned
from tasks.models.saved.sliced import save_compact
from tasks.pruning.core.masks import lowest
from tasks.pruning.core.targets import SemiStructured

SPARSITY = 0.3
NUMBERS = {"prompt_tokens": 512, "new_tokens": 32, "batch_size": 1}


def masked_(model: PreTrainedModel) -> PreTrainedModel:
    """2:4 by magnitude; which weights go does not matter to speed."""
    for layer in describe(model).layers().values():
        layer.weight_OI.masked_fill_(
            lowest(layer.weight_OI.float().abs(), SemiStructured(2, 4)), 0.0
        )
    return model


FORMS: dict[str, Callable[[PreTrainedModel], PreTrainedModel]] = {
    "dense": lambda model: model,
    "masked 2:4": masked_,
    f"sliced {SPARSITY}": lambda model: compact_(model, random_kept(model, SPARSITY)),
}


def save(dense: PreTrainedModel, folder: Path) -> dict[str, Path]:
    """Each form in a folder that ``load_pruned`` loads, with what is left and no more."""
    folders = {}
    for form, make in FORMS.items():
        sliced = form.startswith("sliced")
        model = dense if sliced else make(copy.deepcopy(dense))
        kept = random_kept(dense, SPARSITY if sliced else 0.0)
        folders[form] = folder / form
        save_compact(model, kept, folder, folder / form, dtype=dense.dtype, metadata={})
    return folders


def peak_memory(folder: Path) -> int:
    """In a process of its own: this one holds every form."""
    ran = subprocess.run(
        [sys.executable, *sys.argv, "--peak", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(ran.stdout.split()[-1])


def measure(models: dict[str, PreTrainedModel], repetitions: int) -> dict[str, SpeedResult]:
    """The forms by turns; the first repetition warms up."""
    prompt_BL = random_prompt(models["dense"], NUMBERS["prompt_tokens"], NUMBERS["batch_size"])
    requests: dict[str, list[Request]] = {form: [] for form in models}
    for repetition in range(repetitions + 1):
        for form in turned(list(models), repetition):
            request = timed_request(models[form], prompt_BL, NUMBERS["new_tokens"])
            if repetition:
                requests[form].append(request)
    common = {"warmup": 1, "seed": 0, "peak_memory_bytes": 0}
    return {form: summarise(models[form], requests[form], prompt_BL, **common) for form in models}


def times_dense(result: SpeedResult, dense: SpeedResult, column: str) -> float:
    pairs = zip(getattr(dense, column), getattr(result, column), strict=True)
    return statistics.median(base / own for base, own in pairs)


def table(
    dtype: str,
    models: dict[str, PreTrainedModel],
    results: dict[str, SpeedResult],
    folders: dict[str, Path],
) -> None:
    print(f"\n**{dtype}**\n")
    print("| | prefill tokens/s (quartiles) | times dense | decode tokens/s (quartiles)", end="")
    print(" | times dense | latency p50, p95 ms | peak memory MB | MB on disk | parameters |")
    print("|---|---|---|---|---|---|---|---|---|")
    for form, result in results.items():
        cells = [form]
        for part in ("prefill", "decode"):
            rates = [
                getattr(result, f"{part}_tokens_per_second{end}") for end in ("", "_p25", "_p75")
            ]
            cells.append("{:.1f} ({:.1f} to {:.1f})".format(*rates))
            cells.append(f"{times_dense(result, results['dense'], f'{part}_seconds'):.2f}")
        cells.append(f"{result.latency_p50_ms:.0f}, {result.latency_p95_ms:.0f}")
        cells.append(f"{peak_memory(folders[form]) / 1e6:.0f}")
        cells.append(f"{bytes_on_disk(folders[form]) / 1e6:.1f}")
        cells.append("{} ({} not zero)".format(*added(counts_by_name(models[form]).values())))
        print(f"| {' | '.join(cells)} |", flush=True)


def compare(options: argparse.Namespace, dtype: str) -> None:
    dense = load(options, dtype).model
    models = {form: make(copy.deepcopy(dense)) for form, make in FORMS.items()}
    results = measure(models, options.repetitions)
    with tempfile.TemporaryDirectory() as name:
        table(dtype, models, results, save(dense, Path(name)))
    if packed := packed_bytes(models["masked 2:4"]):
        print(f"\n2:4 packed for sparse tensor cores would take {packed / 1e6:.1f} MB.", flush=True)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--peak", type=Path, help="print the peak memory of this folder's model")
    options = parser.parse_args()
    if options.peak:
        model = load_pruned(options.peak)
        print(measure_speed(model, **NUMBERS, warmup=1, repetitions=1).peak_memory_bytes)
        return
    print_environment()
    print(f"load {os.getloadavg()[0]:.1f} before", end="")
    for dtype in ("float32", "bfloat16"):
        compare(options, dtype)
    print(f"\nload {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
