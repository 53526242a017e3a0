"""Which model families are pruned and which refused, on tiny random models, as a table.

python tests/benchmarks/families.py > tests/benchmarks/families.md
"""

from __future__ import annotations

import datetime
import os
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
import transformers  # noqa: E402
from support import families  # noqa: E402
from support.reloading import RELATIVE, reload_difference  # noqa: E402

RELOADS = "reloads"


def checkpoint_of(verdict: families.Verdict) -> str:
    """Whether the family's pruned checkpoint is the model that was pruned."""
    if verdict.outcome != "right":
        return ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            away = reload_difference(verdict.family, Path(folder))
        except Exception as error:  # noqa: BLE001 (all families are told)
            return " ".join(f"{type(error).__name__}: {error}".split())
    return RELOADS if away <= RELATIVE else f"{away:.0e} away"


def main() -> None:
    verdicts = [families.verdict_of(name) for name in families.names()]
    checkpoints = [checkpoint_of(verdict) for verdict in verdicts]
    counts = Counter(verdict.outcome for verdict in verdicts)
    built = f"{counts['right']} right ({checkpoints.count(RELOADS)} of them reload), "
    built += f"{counts['refused']} refused"
    today = datetime.datetime.now(tz=datetime.UTC).date()
    print("# Model families\n")
    print(
        "A tiny random model of each decoder-only family of transformers, four blocks with every "
        "kind of layer that the family has, windows three times as long as sliding attention "
        "sees. *Right*: the unpruned walk through the blocks equals the model's own forward pass "
        "after each block (1e-5, relative), and magnitude, Wanda, SparseGPT and SwiftPrune reach "
        "a sparsity of 0.5. *Reloads*: its pruned checkpoint, loaded with stock "
        f"`from_pretrained`, has every weight, and the perplexity to {RELATIVE:.0e} (relative). "
        "*Refused*: `UnsupportedModelError` with the reason. *Not built*: "
        "transformers makes no tiny model that runs, so nothing is known.\n"
    )
    versions = f"transformers {transformers.__version__} and torch {torch.__version__}"
    script = Path(__file__).resolve().relative_to(ROOT)
    print(f"Made by `python {script}` on {today} with {versions}: ", end="")
    print(f"{built}, {counts['not built']} not built.\n")
    print("| family | model | outcome | checkpoint | reason, or what stays dense and uncounted |")
    print("|---|---|---|---|---|")
    for verdict, checkpoint in zip(verdicts, checkpoints, strict=True):
        reason = verdict.reason.removeprefix(f"{verdict.architecture}: ")
        reason = reason or ", ".join(verdict.exempt)
        told, reason = (
            re.sub(r"[|*_<>`]", lambda found: f"\\{found[0]}", text)
            for text in (checkpoint, reason)
        )
        name = f"{verdict.family} | {verdict.architecture} | {verdict.outcome}"
        print(f"| {name} | {told} | {reason} |")


if __name__ == "__main__":
    main()
