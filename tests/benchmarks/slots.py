"""Slot filling: F1 of a pruned encoder against sparsity, tuned before pruning or after it.

    python tests/benchmarks/slots.py --data FOLDER [--seeds 0 1 2] [--finetune before]

FOLDER holds train, dev and test with a JSONL file an event, as W-NUT 2020's shared task gives them.
Methods calibrate on the texts of train. What was computed stays in SECATEUR_HOME: a run that was
ended goes on. Results: slots.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from common import print_environment

from configs.schema import SweepConfig
from tasks.plan.sweep import plan_sweep
from tasks.store.context import Context
from tasks.store.home import home
from tasks.store.store import Store

METHODS = ("magnitude", "wanda", "swiftprune", "sketched_obs")
TARGETS = ("0.3", "0.5", "0.7", "0.9", "2:4")


def texts_of(folder: Path) -> Path:
    """The training tweets as plain text, one a line."""
    lines = [
        json.loads(line)["text"].replace("\n", " ")
        for path in sorted((folder / "train").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    path = home() / "slot-texts.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def sweep_of(options: argparse.Namespace) -> SweepConfig:
    """One task a seed."""
    data = {name: str(options.data / name) for name in ("train", "dev", "test")}
    tasks = [
        {
            "name": f"seed{seed}",
            "seed": seed,
            "finetune": options.finetune,
            "data": {"source": "files", **data},
        }
        for seed in options.seeds
    ]
    return SweepConfig.model_validate(
        {
            "name": "slots",
            "models": [options.model],
            "dtype": "float32",
            "calibration": {
                "corpus": {"source": "files", "files": [str(texts_of(options.data))]},
                "samples": 32,
                "sequence_length": 64,
            },
            "methods": options.methods,
            "targets": options.targets,
            "evaluation": {"perplexity": [], "slot_filling": tasks},
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="minilm-l6")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--finetune", choices=["before", "after"], default="before")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    options = parser.parse_args()
    print_environment()
    context = Context(Store(home()))
    plan = plan_sweep(sweep_of(options), dtype="float32")
    for row in (*plan.models, *plan.cells):
        found, seconds = [], 0.0
        for step in row.measured["slot_filling"].values():
            facts = context.make(step).facts
            found.append(f"{facts['f1']:.3f} ± {facts['stderr']:.3f}")
            tuned = context.find(step.needs["tuned"])
            assert tuned is not None
            seconds = tuned.facts["seconds"]
        print(f"{row.subject.label:<36} {'  '.join(found)}  (last tuning {seconds:.0f} s)",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
