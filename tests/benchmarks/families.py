"""Which model families are pruned and which refused, on tiny random models, as a table.

python tests/benchmarks/families.py > tests/benchmarks/families.md
"""

from __future__ import annotations

import datetime
import os
import re
import sys
from collections import Counter
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
import transformers  # noqa: E402
from support import families  # noqa: E402


def main() -> None:
    verdicts = [families.verdict_of(name) for name in families.names()]
    counts = Counter(verdict.outcome for verdict in verdicts)
    built = f"{counts['right']} right, {counts['refused']} refused"
    today = datetime.datetime.now(tz=datetime.UTC).date()
    print("# Model families\n")
    print(
        "A tiny random model of each decoder-only family of transformers, four blocks with every "
        "kind of layer that the family has, windows three times as long as sliding attention "
        "sees. *Right*: the unpruned walk through the blocks equals the model's own forward pass "
        "after each block (1e-5, relative), and magnitude, Wanda, SparseGPT and SwiftPrune reach "
        "a sparsity of 0.5. *Refused*: `UnsupportedModelError` with the reason. *Not built*: "
        "transformers makes no tiny model that runs, so nothing is known.\n"
    )
    versions = f"transformers {transformers.__version__} and torch {torch.__version__}"
    script = Path(__file__).resolve().relative_to(ROOT)
    print(f"Made by `python {script}` on {today} with {versions}: ", end="")
    print(f"{built}, {counts['not built']} not built.\n")
    print("| family | model | outcome | reason, or what stays dense and uncounted |")
    print("|---|---|---|---|")
    for verdict in verdicts:
        reason = verdict.reason.removeprefix(f"{verdict.architecture}: ")
        reason = reason or ", ".join(verdict.exempt)
        reason = re.sub(r"[|*_<>`]", lambda found: f"\\{found[0]}", reason)
        print(f"| {verdict.family} | {verdict.architecture} | {verdict.outcome} | {reason} |")


if __name__ == "__main__":
    main()
