"""Quality against time: each one-shot method at 1 024 to 16 384 calibration tokens.

    python tests/benchmarks/frontier.py --data FOLDER [--model gemma3-270m] [--seeds 0 1 2]
    python tests/benchmarks/frontier.py --data FOLDER --methods sketched_obs:directions=32
    python tests/benchmarks/frontier.py --data FOLDER --held-out --methods sketched_obs:steps=4
    python tests/benchmarks/frontier.py --plot tests/benchmarks/figures/frontier.png

Time is the processor seconds of one thread for a loaded model: forward passes, statistics,
selection and updates. A method that is faster on fewer tokens must show the perplexity that it has
on them. Each measurement is a line of frontier.jsonl beside this script: a run goes on where
an earlier one ended, and lines of one point are put together. Times of one table were taken on one
machine; perplexities may come from another (`--measure perplexity --device cuda`), as each line
says. What is to be chosen is compared with --held-out: on text of calibration.txt that neither
calibration nor test holds, in a file of its own. Results: sketched_obs.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from common import Bench, arguments, load, method_of, print_environment
from phases import prune, prune_only
from torch import Tensor

from tasks.measures.perplexity.perplexity import perplexity
from tasks.pruning.core.methods import Method
from tasks.pruning.core.registry import parse_target
from tasks.pruning.full_obs import FullOBS
from tasks.pruning.magnitude import Magnitude
from tasks.pruning.sketched_obs.method import SketchedOBS
from tasks.pruning.sparsegpt import SparseGPT
from tasks.pruning.swiftprune.method import SwiftPrune
from tasks.pruning.wanda import Wanda
from tasks.reporting.charts.style import method_styles
from tasks.runtime.environment import environment

ALL = 1 << 30
METHODS: dict[str, Method] = {
    "magnitude": Magnitude(),
    "wanda": Wanda(),
    "sparsegpt": SparseGPT(),
    "swiftprune": SwiftPrune(),
    "sketched_obs": SketchedOBS(tokens=ALL),
    "full_obs": FullOBS(),
}
FIGURES = ("perplexity", "seconds")
KEYS = ("model", "method", "target", "tokens", "seed", "windows")
Point = dict[str, Any]


def points(path: Path) -> list[Point]:
    """One of each key; the first value of a figure counts."""
    found: dict[tuple[Any, ...], Point] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        point = json.loads(line)
        key = tuple(point[name] for name in KEYS)
        found[key] = point | found.get(key, {})
    return list(found.values())


def key_of(options: argparse.Namespace, name: str, target: str, tokens: int, seed: int) -> Point:
    sees = not name.startswith("magnitude")
    given = (Path(options.model).stem, name, target, tokens if sees else 0, seed if sees else 0)
    return dict(zip(KEYS, (*given, options.windows), strict=True))


def pruned(
    options: argparse.Namespace, bench: Bench, name: str, target: str, calibration_NL: Tensor
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """(seconds, where they are measured; weights)."""
    if "seconds" in options.measure:
        seconds, weights = prune(
            method_of(name, METHODS), bench.decoder, parse_target(target), calibration_NL
        )
        return {"seconds": round(sum(seconds.values()), 2)}, weights
    return {}, prune_only(
        method_of(name, METHODS), bench.decoder, parse_target(target), calibration_NL
    )


def measure(options: argparse.Namespace) -> None:
    """Add what is missing to the file."""
    torch.set_num_threads(1)
    print_environment()
    bench = load(options)
    text = bench.held_out(40) if options.held_out else bench.test
    options.windows = len(text)
    facts = environment()
    # Kernels move SparseGPT by more than other things do.
    processor = f"{facts['processor']}, {facts['cpu_capability']}"
    where = facts["gpus"] if options.device == "cuda" else processor
    original = {name: value.clone() for name, value in bench.model.state_dict().items()}
    jobs = itertools.product(options.seeds, options.tokens, options.methods, options.targets)
    for seed, tokens, name, target in jobs:
        point = key_of(options, name, target, tokens, seed)
        known = [p for p in points(options.out) if all(p[k] == point[k] for k in KEYS)]
        if known and all(figure in known[0] for figure in options.measure):
            continue
        calibration_NL = bench.calibration_of(seed)[: tokens // 512]
        figures, weights = pruned(options, bench, name, target, calibration_NL)
        if "perplexity" in options.measure:
            bench.model.load_state_dict(weights, strict=False)
            found = perplexity(bench.model, text, batch_size=8).perplexity
            bench.model.load_state_dict(original)
            figures["perplexity"] = round(found, 3)
        point |= figures | {f"{figure}_on": where for figure in figures}
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
        values = [point["perplexity"] for point in group if "perplexity" in point]
        times = [point["seconds"] for point in group if "seconds" in point]
        if not (values and times):
            continue
        error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
        seconds = statistics.median(times)
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
    """Perplexity against seconds, a row of panels for each model, a column for each target."""
    import matplotlib.ticker

    matplotlib.use("Agg")
    from matplotlib import pyplot

    table = means(found)
    models = list(dict.fromkeys(key[0] for key in table))[::-1]
    targets = list(dict.fromkeys(key[1] for key in table))
    names = list(dict.fromkeys(key[2] for key in table))
    styles = method_styles(names)
    figure, grid = pyplot.subplots(
        len(models),
        len(targets),
        figsize=(4.6 * len(targets), 3.4 * len(models)),
        squeeze=False,
        layout="constrained",
    )
    panels = itertools.product(models, targets)
    for axes, (model, target) in zip(grid.flat, panels, strict=True):
        for name in names:
            line = [(v[2], v[0], v[1]) for k, v in table.items() if k[:3] == (model, target, name)]
            if not line:
                continue
            x, y, error = zip(*sorted(line), strict=True)
            look = {"color": styles[name].colour, "marker": styles[name].marker, "markersize": 5}
            axes.errorbar(x, y, yerr=error, label=name, lw=1.2, **look)
        axes.set(xscale="log", yscale="log", title=f"{model}, {target}", xlabel="processor seconds")
        for axis, ticks in ((axes.xaxis, (1, 2, 5)), (axes.yaxis, (1, 1.5, 2, 3, 5, 7))):
            axis.set_major_locator(matplotlib.ticker.LogLocator(subs=ticks))
            axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
            axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axes.grid(alpha=0.3, which="both", lw=0.4)
    for row in grid:
        row[0].set_ylabel("perplexity")
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
    parser.add_argument("--measure", nargs="+", choices=FIGURES, default=list(FIGURES))
    parser.add_argument("--out", type=Path, help="by default frontier.jsonl beside this script")
    parser.add_argument("--held-out", action="store_true", help="measure no test text")
    parser.add_argument("--plot", type=Path, help="draw --methods of the file, measure nothing")
    options = parser.parse_args()
    name = "frontier-held-out" if options.held_out else "frontier"
    options.out = options.out or here.with_name(f"{name}.jsonl")
    if options.plot:
        drawn = [point for point in points(options.out) if point["method"] in options.methods]
        plot(drawn, options.plot)
        return
    if options.data is None:
        parser.error("--data names the folder with WikiText-2's files")
    if "seconds" in options.measure and options.device != "cpu":
        parser.error("--device: processor seconds are measured on a CPU (--measure perplexity)")
    measure(options)
    show(points(options.out))


if __name__ == "__main__":
    main()
