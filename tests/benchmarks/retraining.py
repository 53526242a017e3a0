"""Does it matter which windows of a mixed pool retrain or calibrate a pruned model?

    python tests/benchmarks/retraining.py --data FOLDER [--only training] [--seeds 0 1 2]

FOLDER holds wikitext-2/{calibration,test}.txt and blimp/*.jsonl. The pool: 160 windows of 64 tokens
of SmolLM2-135M's tokenizer, 40 % of WikiText-2, 20 % each of the Python reference, the standard
library's code and BLiMP's good sentences. `training`: AST at 2:4 takes the same number of steps on
5 % of the pool, 20 % of it and all of it, chosen at random, evenly and by TAGCOS. `calibration`:
Wanda and SwiftPrune at 0.5 look at such windows. Perplexity on held-out text of each source, a row
a seed and the means; sweeps, reports and what an interrupted run goes on from lie below `--home`,
and `--figures` takes the plots. Results: retraining.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import print_environment
from matplotlib.figure import Figure as Drawing

from tasks.data.corpora import read_python_docs
from tasks.measures.registry import figures_of
from tasks.reporting.charts.selections import by_selection
from tasks.reporting.plots.chart import draw_chart
from tasks.reporting.plots.paper import plain_style, save
from tasks.reporting.rows import Row, read_results

POOL, LENGTH = 160, 64
BUDGETS = {"5%": 8, "20%": 32}
SHARES = {"wikitext": 2, "python": 1, "code": 1, "blimp": 1}
CORESET = {"pool": POOL, "rank": 4}
STEPS, BATCH = 40, 2


def texts(data: Path, folder: Path) -> dict[str, dict[str, Path]]:
    """``pool`` and ``test`` → source → its file."""
    wikitext = data / "wikitext-2"
    pairs = [
        [json.loads(line)["sentence_good"] for line in path.read_text("utf-8").splitlines()]
        for path in sorted((data / "blimp").glob("*.jsonl"))
    ]
    modules = sorted(Path(os.__file__).parent.glob("*.py"))

    def code(number: int) -> str:
        chosen = modules[number::8]
        return "\n\n".join(path.read_text(encoding="utf-8") for path in chosen)

    def sentences(first: int, last: int) -> str:
        return "\n".join(text for mine in pairs for text in mine[first:last])

    found = {
        "pool": {
            "wikitext": (wikitext / "calibration.txt").read_text("utf-8"),
            "python": "\n\n".join(read_python_docs("calibration")[1]),
            "code": code(0),
            "blimp": sentences(0, 500),
        },
        "test": {
            "wikitext": (wikitext / "test.txt").read_text("utf-8"),
            "python": "\n\n".join(read_python_docs("heldout")[1]),
            "code": code(4),
            "blimp": sentences(500, 1000),
        },
    }
    written: dict[str, dict[str, Path]] = {}
    for part, mine in found.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        for name, text in mine.items():
            path = folder / part / f"{name}.txt"
            path.write_text(text, encoding="utf-8")
            written.setdefault(part, {})[name] = path
    return written


def sweep(files: dict[str, dict[str, Path]], seeds: list[int]) -> dict[str, Any]:
    """What all sweeps have in common."""
    pool = [
        {"source": "files", "files": [str(files["pool"][name])], "share": share}
        for name, share in SHARES.items()
    ]
    tests = [
        {
            "name": name,
            "corpus": {"source": "files", "files": [str(path)]},
            "sequence_length": 128,
            "windows": 16,
        }
        for name, path in files["test"].items()
    ]
    calibration = {"corpus": pool, "samples": 32, "sequence_length": LENGTH, "sampling": "spread"}
    return {
        "models": ["smollm2-135m"],
        "dtype": "float32",
        "calibration": calibration,
        "seeds": seeds,
        "evaluation": {"perplexity": tests},
        "save_checkpoints": False,
    }


def training(base: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A sweep for each budget and way to choose; the budget is the target's place in a table."""
    learnt = {
        "steps": STEPS,
        "batch": BATCH,
        "micro_batch": BATCH,
        "learning_rate": 1e-4,
        "criterion": "activation",
    }
    sweeps = [("whole", "pool", POOL)]
    sweeps += [(k, b, n) for b, n in BUDGETS.items() for k in ("random", "spread", "coreset")]
    for kind, budget, samples in sweeps:
        chosen = {
            "corpus": base["calibration"]["corpus"],
            "sequence_length": LENGTH,
            "samples": samples,
            "sampling": "spread" if kind == "whole" else kind,
            "coreset": CORESET,
        }
        yield {
            **base,
            "name": f"retraining-{kind}-{budget.rstrip('%')}",
            "training": chosen,
            "methods": ["ast"],
            "options": {"ast": learnt},
            "targets": ["2:4"],
        }


def calibration(base: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A sweep for each budget; ways to choose are an axis of it."""
    for budget, samples in BUDGETS.items():
        yield {
            **base,
            "name": f"calibrating-{budget.rstrip('%')}",
            "calibration": {**base["calibration"], "samples": samples, "coreset": CORESET},
            "selections": ["contiguous", "random", "spread", "coreset"],
            "methods": ["wanda", "swiftprune"],
            "targets": ["0.5"],
        }


def run(config: dict[str, Any], home: Path) -> list[Row]:
    """The rows of a sweep, which goes on where it was."""
    path = home / f"{config['name']}.yaml"
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "flows.cli", "run", str(path)]
    environment = {**os.environ, "SECATEUR_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    return read_results(home / "sweeps" / config["name"])


def rows_of(what: str, base: dict[str, Any], home: Path) -> list[Row]:
    """All rows; ``selection`` says how windows were chosen, and ``target`` how many."""
    found: list[Row] = []
    for config in {"training": training, "calibration": calibration}[what](base):
        _, *kind, budget = config["name"].split("-")
        budget = budget if budget == "pool" else f"{budget} % of the pool"
        for row in run(config, home):
            if row["method"] != "dense":
                named = {"selection": kind[0]} if kind else {}
                found.append({**row, **named, "target": budget})
    return found


def print_table(rows: list[Row], columns: list[str]) -> None:
    """Mean perplexity ± standard error over seeds, one row a method, budget and selection."""
    print(f"| method | windows | chosen | {' | '.join(c.partition('/')[2] for c in columns)} |")
    print(f"|---|---|---|{'---:|' * len(columns)}")
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        key = str(row["method"]), str(row["target"]), str(row["selection"])
        groups.setdefault(key, []).append(row)
    for key, mine in groups.items():
        cells = []
        for column in columns:
            values = [float(str(row[column])) for row in mine]
            spread = f" ± {statistics.stdev(values) / len(values) ** 0.5:.2f}" if values[1:] else ""
            same = len(set(values)) == 1
            cells.append(f"{statistics.mean(values):.2f}{'' if same else spread}")
        print(f"| {' | '.join((*key, *cells))} |")
    print()


def drawings(rows: list[Row]) -> Iterator[tuple[str, Drawing]]:
    """A picture a source: a point a seed, paired, a panel a budget."""
    figures = figures_of(list(dict.fromkeys(column for row in rows for column in row)))
    whole = [row for row in rows if row["selection"] == "whole"]
    budgets = {str(row["target"]) for row in rows} - {"pool"}
    # What all of the pool does stands in every panel.
    shown = [row for row in rows if row not in whole]
    shown += [{**row, "target": budget} for row in whole for budget in sorted(budgets)]
    for figure in figures:
        if figure.column.startswith("perplexity/"):
            chart = by_selection(shown, "smollm2-135m", figure, figures)
            assert chart is not None
            yield chart.stem, draw_chart(chart)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="wikitext-2/ and blimp/")
    parser.add_argument("--home", type=Path, default=Path("outputs/benchmarks/retraining"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", choices=("training", "calibration"))
    parser.add_argument("--figures", type=Path, help="a folder for the plots")
    options = parser.parse_args()
    home = options.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    print_environment()
    base = sweep(texts(options.data.absolute(), home / "texts"), options.seeds)
    for what in [options.only] if options.only else ["training", "calibration"]:
        rows = rows_of(what, base, home)
        columns = [name for name in rows[0] if name.startswith("perplexity/")]
        columns = [name for name in columns if name.count("/") == 1]
        print_table(rows, columns)
        if options.figures:
            with plain_style():
                for stem, drawing in drawings(rows):
                    save(drawing, options.figures / f"{what}-{stem}.png")


if __name__ == "__main__":
    main()
