"""Quality against time: each one-shot method at 1 024 to 16 384 calibration tokens.

    python tests/benchmarks/frontier.py --data FOLDER [--model gemma3-270m] [--seeds 0 1 2]
    python tests/benchmarks/frontier.py --data FOLDER --methods sketched_obs:directions=16
    python tests/benchmarks/frontier.py --plot tests/benchmarks/figures/frontier.png

Time is the processor seconds of one thread for a loaded model: forward passes, statistics,
selection and updates. A method that is faster on fewer tokens must show the perplexity that it has
on them. Each point is a line of frontier.jsonl beside this script, so that a run goes on where an
earlier one ended; times of one table were taken on one machine. Results: sketched_obs.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import arguments, load, print_environment
from phases import prune

from tasks.measures.perplexity.perplexity import perplexity
from tasks.pruning.core.methods import Method
from tasks.pruning.core.registry import parse_target
from tasks.pruning.magnitude import Magnitude
from tasks.pruning.sketched_obs.method import SketchedOBS
from tasks.pruning.sparsegpt import SparseGPT
from tasks.pruning.swiftprune.method import SwiftPrune
from tasks.pruning.wanda import Wanda
from tasks.reporting.charts.style import method_styles

ALL = 1 << 30
METHODS: dict[str, Method] = {
    "magnitude": Magnitude(),
    "wanda": Wanda(),
    "sparsegpt": SparseGPT(),
    "swiftprune": SwiftPrune(),
    "sketched_obs": SketchedOBS(tokens=ALL),
}
KEYS = ("model", "method", "target", "tokens", "seed", "windows")
Point = dict[str, Any]


def method_of(name: str) -> Method:
    """``sketched_obs:directions=16,ridge=0.03``: a method with options of its own."""
    method, _, text = name.partition(":")
    pairs = (pair.split("=") for pair in text.split(",") if pair)
    options = {key: json.loads(v) if v[0] in "0123456789" else v for key, v in pairs}
    return replace(METHODS[method], **options)


def points(path: Path) -> list[Point]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def measure(options: argparse.Namespace) -> None:
    """Add what is missing to the file."""
    torch.set_num_threads(1)
    print_environment()
    bench = load(options)
    original = {name: value.clone() for name, value in bench.model.state_dict().items()}
    done = {tuple(point[key] for key in KEYS) for point in points(options.out)}
    for seed in options.seeds:
        for tokens in options.tokens:
            calibration = bench.calibration_of(seed)[: tokens // 512]
            for name in options.methods:
                sees = 0 if name.startswith("magnitude") else tokens
                for target in options.targets:
                    key = (options.model, name, target, sees, seed if sees else 0, options.windows)
                    if key in done:
                        continue
                    done.add(key)
                    seconds, weights = prune(
                        method_of(name), bench.decoder, parse_target(target), calibration
                    )
                    bench.model.load_state_dict(weights, strict=False)
                    found = perplexity(bench.model, bench.test, batch_size=8).perplexity
                    bench.model.load_state_dict(original)
                    point = dict(zip(KEYS, key, strict=True)) | {
                        "perplexity": round(found, 3),
                        "seconds": round(sum(seconds.values()), 2),
                    }
                    print(point, flush=True)
                    with options.out.open("a") as file:
                        file.write(json.dumps(point) + "\n")


def means(found: list[Point]) -> dict[tuple[str, str, str, int], tuple[float, float, float, int]]:
    """(model, target, method, tokens) → mean perplexity, its standard error, seconds, seeds."""
    groups: dict[tuple[str, str, str, int], list[Point]] = {}
    for point in found:
        key = (point["model"], point["target"], point["method"], point["tokens"])
        groups.setdefault(key, []).append(point)
    result = {}
    for key, group in sorted(groups.items()):
        values = [point["perplexity"] for point in group]
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
        seconds = statistics.median(point["seconds"] for point in group)
        result[key] = (statistics.mean(values), error, seconds, len(values))
    return result


def show(found: list[Point]) -> None:
    """A table; times faster than SparseGPT on its most tokens."""
    table = means(found)
    for model, target in dict.fromkeys((key[0], key[1]) for key in table):
        mine = {key[2:]: value for key, value in table.items() if key[:2] == (model, target)}
        whole = max((v[2] for (name, _), v in mine.items() if name == "sparsegpt"), default=None)
        print(f"\n| {model}, {target} | tokens | perplexity | ± | seconds | times faster |")
        print("|---|---|---|---|---|---|")
        for (name, tokens), (value, error, seconds, seeds) in mine.items():
            told = f"{error:.2f}" if seeds > 1 else ""
            ratio = f"{whole / seconds:.2f}" if whole else ""
            print(f"| {name} | {tokens or '-'} | {value:.2f} | {told} | {seconds:.1f} | {ratio} |")


def plot(found: list[Point], path: Path) -> None:
    """Perplexity against seconds, a panel for each model and target."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    table = means(found)
    panels = list(dict.fromkeys((key[0], key[1]) for key in table))
    names = list(dict.fromkeys(key[2] for key in table))
    styles = method_styles(names)
    figure, grid = pyplot.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 3.6), squeeze=False, layout="constrained"
    )
    for axes, (model, target) in zip(grid[0], panels, strict=True):
        for name in names:
            line = [(v[2], v[0], v[1]) for k, v in table.items() if k[:3] == (model, target, name)]
            if not line:
                continue
            x, y, error = zip(*sorted(line), strict=True)
            look = {"color": styles[name].colour, "marker": styles[name].marker, "markersize": 5}
            axes.errorbar(x, y, yerr=error, label=name, lw=1.2, **look)
        axes.set(xscale="log", yscale="log", title=f"{model}, {target}", xlabel="processor seconds")
        axes.yaxis.set_minor_formatter(matplotlib.ticker.ScalarFormatter())
        axes.yaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
        axes.grid(alpha=0.3, which="both", lw=0.4)
    grid[0][0].set_ylabel("perplexity")
    grid[0][-1].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=140)


def main() -> None:
    parser = arguments(__doc__)
    here = Path(__file__)
    parser.set_defaults(data=None)
    for action in parser._actions:
        action.required = False
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--targets", nargs="+", default=["0.5", "2:4"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    told = f"of {', '.join(METHODS)}; with options as NAME:option=value,…"
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help=told)
    parser.add_argument("--out", type=Path, default=here.with_suffix(".jsonl"))
    parser.add_argument("--plot", type=Path, help="draw what the file holds, measure nothing")
    options = parser.parse_args()
    if options.plot:
        plot(points(options.out), options.plot)
        return
    if options.data is None:
        parser.error("--data names the folder with WikiText-2's files")
    measure(options)
    show(points(options.out))


if __name__ == "__main__":
    main()
