"""What uncertainty tells of pruned language models: SmolLM2-135M on minimal pairs.

    python tests/benchmarks/uncertainty.py --data FOLDER --pairs FOLDER [--methods wanda …]

The second folder holds BLiMP's files, `*.jsonl` with `sentence_good` and `sentence_bad`. Every cell
of methods × targets gets an ensemble: from disjoint parts of the calibration text, from masks that
policy gradient learned (`--source masks`), or from as many seeds with other random calibration
windows (`--source seeds`). The first table says what it tells of each cell, the second whether that
follows the accuracy over all cells and over the tasks of cells. All steps lie in `--cache`, so that
an interrupted run goes on. Results: uncertainty.md.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from common import print_environment
from matplotlib.figure import Figure as Drawing
from zero_shot_vs_harness import GROUP, write_tasks

from configs.schema import SweepConfig
from tasks.measures.uncertainty.measure import ALL
from tasks.plan.plan import Plan
from tasks.plan.sweep import plan_sweep
from tasks.reporting.charts.style import method_styles
from tasks.reporting.plots.paper import line_style, plain_style, save
from tasks.store.context import Context
from tasks.store.home import home
from tasks.store.store import Store

ESTIMATES = {"agreement": ("agreement with dense", 1), "u": ("−U", -1), "margin": ("margin", 1)}
"""Estimate → its words, and the sign with which more of it means a better model."""
LEARNING = {"policy_gradient": {"steps": 8, "masks": 6, "batch_size": 2}}
"""As the quickstart's."""


def planned(options: argparse.Namespace, tasks: Path) -> Plan:
    corpus = {"source": "files", "files": [str((options.data / "calibration.txt").resolve())]}
    length = options.length
    text = {"name": "text", "corpus": corpus, "sequence_length": length, "windows": 1}
    asked = {"source": options.source, "samples": options.samples}
    if options.source == "calibration":
        asked["subset"] = options.subset
    config = SweepConfig.model_validate({
        "name": "uncertainty", "models": ["smollm2-135m"], "save_checkpoints": False,
        "methods": options.methods, "targets": options.targets,
        "options": {name: LEARNING[name] for name in options.methods if name in LEARNING},
        "calibration": {
            "corpus": corpus, "samples": options.subset, "sequence_length": length,
            "sampling": "random" if options.source == "seeds" else "contiguous",
        },
        "training": {"sequence_length": 256},
        "seeds": list(range(options.samples if options.source == "seeds" else 1)),
        "evaluation": {
            "perplexity": [text], "agreement": False, "reconstruction": False,
            "batch_size": options.batch,
            "zero_shot": {"tasks": [GROUP], "include_path": str(tasks), "limit": options.limit},
            "uncertainty": asked,
        },
    })  # fmt: skip
    return plan_sweep(config, dtype="float32")


def print_cells(plan: Plan, context: Context) -> None:
    """A row a cell, all tasks' questions together."""
    names = ("u", "margin", "std", "entropy", "vote")
    print("| cell | accuracy of the mean | U | margin / sd | entropy | agreement | ties | AUROC of "
          f"{', '.join(names)} | accuracy of the surer half by U (by margin) |\n"
          f"|---|{'---:|' * 8}")  # fmt: skip
    for cell in plan.cells:
        found = context.find(cell.measured["uncertainty"]["all"])
        if found is None:
            continue
        told: Any = found.facts["tasks"][ALL]
        half = {name: dict(map(tuple, curve))[0.5] for name, curve in told["coverage"].items()}
        areas = ", ".join(f"{told['auroc'][name]:.3f}" for name in names)
        print(f"| {cell.label} | {told['accuracy']:.3f} | {told['u']:.4f} | {told['margin']:.2f} / "
              f"{told['std']:.2f} | {told['entropy']:.3f} | {told['agreement']:.3f} | "
              f"{told['ties']} | {areas} | {half['u']:.3f} ({half['margin']:.3f}) |")  # fmt: skip
    print()


def print_across(plan: Plan, context: Context) -> None:
    """A row an estimate and kind of points."""
    found = context.find(plan.across["uncertainty_across"]["all"])
    assert found is not None
    print("| against accuracy | points | Spearman | 95 % | Kendall |\n|---|---:|---:|---:|---:|")
    for points, told in found.facts["points"].items():
        for name, facts in told["estimates"].items():
            if facts["spearman"] is None:
                print(f"| {name} | {told['count']} {points} | too few | | |")
                continue
            low, high = facts["interval"]
            print(f"| {name} | {told['count']} {points} | {facts['spearman']:+.3f} | "
                  f"{low:+.2f} to {high:+.2f} | {facts['kendall']:+.3f} |")  # fmt: skip


def heading(facts: dict[str, Any]) -> str:
    """Spearman with its interval, where there are cells enough."""
    if facts["spearman"] is None:
        return "too few cells to tell"
    low, high = facts["interval"]
    return f"Spearman {facts['spearman']:+.2f} ({low:+.2f} to {high:+.2f})"


def drawn(plan: Plan, context: Context) -> Drawing:
    """Accuracy against each estimate, a point a cell; Spearman with its interval above."""
    across = context.find(plan.across["uncertainty_across"]["all"])
    assert across is not None
    told = across.facts["points"]["cells"]["estimates"]
    methods = plan.config.methods
    styles = method_styles(methods)
    with plain_style():
        drawing = Drawing(figsize=(8.2, 2.7), layout="constrained")
        panels = drawing.subplots(1, len(ESTIMATES), sharey=True)
        for axes, (name, (words, sign)) in zip(panels, ESTIMATES.items(), strict=True):
            for method in methods:
                style = styles[method]
                cells = [cell for cell in plan.cells if cell.axes["method"] == method]
                facts = [context.find(cell.measured["uncertainty"]["all"]) for cell in cells]
                points = [artifact.facts["tasks"][ALL] for artifact in facts if artifact]
                x = [sign * point[name] for point in points]
                y = [point["accuracy"] for point in points]
                axes.plot(x, y, color=style.colour, marker=style.marker, linewidth=0.6,
                          linestyle=line_style(style), label=method)  # fmt: skip
            axes.set_title(heading(told[name]))
            axes.set_xlabel(words)
        panels[0].set_ylabel("accuracy")
        handles = panels[0].get_legend_handles_labels()
        drawing.legend(*handles, loc="outside lower center", ncols=len(methods))
    return drawing


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with WikiText-2's files")
    parser.add_argument("--pairs", type=Path, required=True, help="folder with BLiMP's files")
    parser.add_argument("--cache", type=Path, default=Path("outputs/benchmarks/uncertainty"))
    parser.add_argument("--methods", nargs="+", default=["wanda"])
    parser.add_argument("--targets", nargs="+", default=["0.3", "0.5", "0.6", "0.7"])
    parser.add_argument("--limit", type=int, default=12, help="pairs of each paradigm")
    parser.add_argument(
        "--source", choices=("calibration", "masks", "seeds"), default="calibration"
    )
    parser.add_argument("--samples", type=int, default=4, help="members")
    parser.add_argument("--subset", type=int, default=4, help="windows of each member")
    parser.add_argument("--length", type=int, default=64, help="tokens of a window")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--figure", type=Path, help="a PNG: accuracy against each estimate")
    options = parser.parse_args()
    os.environ["SECATEUR_HOME"] = str(options.cache.resolve())
    print_environment()
    tasks = options.cache.resolve() / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    write_tasks(options.pairs.resolve(), tasks)
    plan, context = planned(options, tasks), Context(Store(home()))
    members = evaluations = 0.0
    for goal in plan.goals:
        if goal.name == "checkpoint":
            continue
        start = time.process_time()
        context.make(goal)
        spent = time.process_time() - start
        members += spent * (goal.name == "uncertainty")
        evaluations += spent * (goal.name == "zero_shot")
        print(f"{goal.group}, {goal.label}: {spent:.0f} s", flush=True)
    print(f"\nprocessor time: zero-shot {evaluations:.0f} s, members {members:.0f} s\n")
    print_cells(plan, context)
    print_across(plan, context)
    if options.figure:
        save(drawn(plan, context), options.figure)


if __name__ == "__main__":
    main()
