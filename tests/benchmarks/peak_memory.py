"""Peak resident memory of pruning SmolLM2, block by block, method after method.

    python tests/benchmarks/peak_memory.py --data FOLDER [--methods sparsegpt,wanda,swiftprune]

Each method runs in a process of its own. What is held to be necessary: the model; the calibration
windows' hidden states before and after a block; and one block's working set: its weights once
more, and for SparseGPT its Hessians and one factor. `above` is the peak during pruning less what
was resident before it (the model and the libraries), to be compared with `necessary`, which is the
same without the model. What a batch's forward pass needs comes on top. `grows` is how much more is
resident after the last block than after the second, and `copies` the size of the pruned weights of
the blocks between: a walk that kept what it pruned would grow by that much. Results: sparsegpt.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import Bench, arguments, load, print_environment

from tasks.models.saved.spill import SpilledWeights
from tasks.pruning.core import driver
from tasks.pruning.core.methods import LayerMethod
from tasks.pruning.core.registry import get, parse_target
from tasks.runtime.memory import measured

MIB = 1 << 20


def resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this benchmark needs Linux's /proc")


def necessary(bench: Bench, name: str) -> dict[str, float]:
    """What the walk cannot do without, in bytes."""
    layers = list(bench.decoder.layers().values())
    blocks = len(bench.decoder.blocks)
    block = 4 * sum(layer.stored.numel() for layer in layers) / blocks
    hidden = bench.model.config.get_text_config().hidden_size
    working = block
    if name == "sparsegpt":
        widths = {layer.name: layer.in_features for layer in layers}
        shared = [widths[n] for n in widths if not n.endswith(("k_proj", "v_proj", "up_proj"))]
        # The Hessians of all inputs, and the widest one's factor with what makes it.
        working += 4 * (sum(w * w for w in shared) + 4 * max(shared) ** 2)
    return {
        "model": 4.0 * sum(p.numel() for p in bench.model.parameters()),
        "block": working,
        "activations": 2.0 * 4 * bench.calibration.numel() * hidden,
        "copies": block * (blocks - 2),
    }


def child(bench: Bench, name: str, target: str) -> dict[str, float]:
    method = get(name)()
    after: list[int] = []
    facts = necessary(bench, name)
    # Weights that were only mapped would become resident during the work.
    assert sum(float(p.sum()) for p in bench.model.parameters()) != 0
    facts["before"] = resident()
    tokens, statistics = bench.calibration, None

    def note(done: int, total: int) -> None:
        del done, total
        after.append(resident())

    with tempfile.TemporaryDirectory() as folder, measured("cpu") as peak:
        if isinstance(method, LayerMethod):
            tokens = tokens[: method.calibration_windows(*tokens.shape)]
            statistics = driver.collect_statistics(bench.decoder, tokens, progress=note)
        result = driver.prune(
            method,
            bench.decoder,
            parse_target(target),
            tokens_NL=tokens,
            statistics=statistics,
            progress=None if isinstance(method, LayerMethod) else note,
            # As a sweep does: on disk, so that the blocks are not held twice.
            into=SpilledWeights(Path(folder) / "weights"),
        )
        assert result.weights
    return facts | {"peak": float(peak.bytes), "grows": float(after[-1] - after[1])}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--methods", default="sparsegpt,wanda,swiftprune")
    parser.add_argument("--target", default="2:4")
    parser.add_argument("--only", help="measure this method here and print JSON (used internally)")
    options = parser.parse_args()
    if options.only:
        print(json.dumps(child(load(options), options.only, options.target)))
        return
    print_environment()
    heads = ("model", "activations", "block", "necessary", "above", "peak", "grows", "copies")
    print("MiB".ljust(14) + "".join(head.rjust(13) for head in heads))
    for name in options.methods.split(","):
        command = [sys.executable, __file__, *sys.argv[1:], "--only", name]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        facts = json.loads(done.stdout.splitlines()[-1])
        facts["necessary"] = facts["block"] + facts["activations"]
        facts["above"] = facts["peak"] - facts["before"]
        print(f"{name:<14}" + "".join(f"{facts[head] / MIB:>13.0f}" for head in heads), flush=True)


if __name__ == "__main__":
    main()
