"""Zero-shot figures of this library against the harness's own command line, on real models.

    python tests/benchmarks/zero_shot_vs_harness.py --data FOLDER --pairs FOLDER

The second folder holds BLiMP's files, `*.jsonl` with `sentence_good` and `sentence_bad`; each
becomes a task as the harness's own BLiMP defines it. SmolLM2-135M is measured dense, with half of
its weights removed by Wanda, and with a tenth of its heads and channels cut out, each by
`lm_eval --model hf` on the saved folder and by `zero_shot` on the loaded model, both at the same
batch size. Results: zero_shot_vs_harness.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from common import Bench, arguments, load, print_environment

from configs.trust import Trust
from tasks.measures.zero_shot.catalogue import version
from tasks.measures.zero_shot.evaluate import TaskResult, resolve_tasks, zero_shot
from tasks.measures.zero_shot.measure import Tasks as ZeroShot
from tasks.models.load import DTYPES, load_tokenizer
from tasks.models.saved.kept import kept_to_json
from tasks.models.saved.pruned import load_pruned
from tasks.models.saved.save import save_checkpoint
from tasks.pruning.core import driver
from tasks.pruning.core.registry import get, parse_target

GROUP = "minimal-pairs"
BASE = """\
output_type: multiple_choice
dataset_path: json
test_split: test
doc_to_text: ""
doc_to_target: 0
doc_to_choice: "{{[sentence_good, sentence_bad]}}"
num_fewshot: 0
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""
PRUNED = (("wanda", "0.5"), ("wanda_sp", "0.1"))


def write_tasks(pairs: Path, out: Path) -> None:
    """One task file a paradigm, all under one tag."""
    (out / "_base").write_text(BASE)
    for path in sorted(pairs.glob("*.jsonl")):
        lines = ["include: _base", f"tag: {GROUP}", f"task: pairs_{path.stem}"]
        lines += ["dataset_kwargs:", f"  data_files: {{test: {json.dumps(str(path))}}}"]
        (out / f"{path.stem}.yaml").write_text("\n".join(lines) + "\n")


def write_pruned(bench: Bench, source: Path, method: str, target: str, out: Path) -> None:
    """A checkpoint as a sweep saves it."""
    result = driver.prune(
        get(method)(),
        bench.decoder,
        parse_target(target),
        tokens_NL=bench.calibration,
        statistics=driver.collect_statistics(bench.decoder, bench.calibration),
    )
    metadata = {} if result.kept is None else {"kept": kept_to_json(result.kept)}
    save_checkpoint(
        bench.model, source, result.weights, out, dtype=bench.model.dtype, metadata=metadata
    )


def command_line(folder: Path, tasks: Path, dtype: str, limit: int, batch: int) -> Any:
    """What the harness's own program says; its softmax in float32, as here."""
    model = f"pretrained={folder},dtype={dtype},softmax_dtype=float32"
    with tempfile.TemporaryDirectory() as out:
        subprocess.run(
            [
                *(sys.executable, "-m", "lm_eval", "--model", "hf"),
                *("--model_args", model, "--tasks", GROUP),
                *("--include_path", str(tasks), "--limit", str(limit), "--device", "cpu"),
                *("--batch_size", str(batch), "--output_path", out),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        (written,) = Path(out).glob("**/results_*.json")
        return json.loads(written.read_text())["results"]


def compare(theirs: Any, ours: dict[str, TaskResult]) -> tuple[list[str], float]:
    """(tasks whose figures are not the same to the last bit, the largest difference)."""
    differ, largest = [], 0.0
    for name, result in ours.items():
        wanted = theirs[name]["acc,none"], theirs[name]["acc_stderr,none"]
        if wanted != (result.value, result.stderr):
            differ.append(name)
        largest = max(largest, abs(wanted[0] - (result.value or 0.0)))
    return differ, largest


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--pairs", type=Path, required=True, help="folder with BLiMP's files")
    parser.add_argument("--limit", type=int, default=100, help="documents of each paradigm")
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    options.windows = 1
    bench = load(options)
    source = Path(str(bench.model.name_or_path))
    print_environment()
    print(f"lm_eval {version()}, {options.dtype}, {options.limit} documents a paradigm\n")
    print("| model | accuracy (mean of 12) | tasks that differ | largest difference |"
          " command line, s | library, s |\n|---|---:|---:|---:|---:|---:|")  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        tasks = Path(scratch) / "tasks"
        tasks.mkdir()
        write_tasks(options.pairs.resolve(), tasks)
        resolved = resolve_tasks(ZeroShot(tasks=(GROUP,), include_path=str(tasks)))
        folders = {"dense": source}
        for method, target in PRUNED:
            folder = options.cache / f"zero-shot-{method}-{target}-{options.samples}"
            if not (folder / "config.json").exists():
                write_pruned(bench, source, method, target, folder)
            folders[f"{method} {target}"] = folder
        per_task: dict[str, dict[str, TaskResult]] = {}
        for label, folder in folders.items():
            start = time.perf_counter()
            theirs = command_line(folder, tasks, options.dtype, options.limit, options.batch)
            middle = time.perf_counter()
            model = load_pruned(folder, DTYPES[options.dtype], torch.device("cpu"), Trust())
            tokenizer = load_tokenizer(folder, Trust())
            ours = zero_shot(
                model, tokenizer, resolved, limit=options.limit, batch_size=options.batch
            )
            end = time.perf_counter()
            differ, largest = compare(theirs, ours)
            mean = sum(result.value or 0.0 for result in ours.values()) / len(ours)
            print(f"| {label} | {mean:.4f} | {len(differ)} of {len(ours)} | {largest:.4f} | "
                  f"{middle - start:.0f} | {end - middle:.0f} |", flush=True)  # fmt: skip
            per_task[label] = ours
    print(f"\n| paradigm | {' | '.join(per_task)} |\n|---|{'---:|' * len(per_task)}")
    for task in resolved:
        shown = [
            f"{found[task.name].value:.2f} ± {found[task.name].stderr:.3f}"
            for found in per_task.values()
        ]
        print(f"| {task.name.removeprefix('pairs_')} | {' | '.join(shown)} |")


if __name__ == "__main__":
    main()
