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
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "critical"
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
import transformers  # noqa: E402
from support import encoders, families  # noqa: E402
from support.reloading import RELATIVE, reload_difference  # noqa: E402

from configs.trust import Trust  # noqa: E402
from tasks.models.load import load_model  # noqa: E402

RELOADS = "reloads"
_OWN_MATRICES = {"position_buckets": -1, "norm_rel_ebd": "none", "share_att_key": False}
_ENCODERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *((kind, "", {}) for kind in ("Bert", "Roberta", "DistilBert", "Electra")),
    ("Deberta", "positions have matrices of their own", {}),
    ("DebertaV2", "positions have matrices of their own", _OWN_MATRICES),
    ("DebertaV2", "positions share those of tokens, as in version 3", {}),
    ("DebertaV2", "a convolution after block 0, as in v2-xlarge", {"conv_kernel_size": 3}),
)
"""Kind, what is special, and changes to its configuration."""


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


def encoder_verdicts() -> list[tuple[str, families.Verdict]]:
    """What is special of each encoder, and its verdict."""
    verdicts = []
    for kind, special, changes in _ENCODERS:
        with tempfile.TemporaryDirectory() as folder:
            path = encoders.write(Path(folder) / "model", kind, **changes)
            model = load_model(path, torch.float32, torch.device("cpu"), Trust())
        verdicts.append((special, families.judged(kind, model, families.windows())))
    return verdicts


def print_encoders() -> None:
    print("\n## Encoders\n")
    print(
        "The same of tiny random encoders. DeBERTa's blocks are called with a table of relative "
        "positions beside the tokens. A layer that sees both is calibrated on the tokens, one that "
        "sees the table alone on the table, which counts once a window.\n"
    )
    print("| encoder | what is special | outcome | reason |\n|---|---|---|---|")
    for special, verdict in encoder_verdicts():
        reason = verdict.reason.removeprefix(f"{verdict.architecture}: ")
        print(f"| {verdict.architecture} | {special} | {verdict.outcome} | {escaped(reason)} |")


def escaped(text: str) -> str:
    """For a cell of a table."""
    return re.sub(r"[|*_<>`]", lambda found: f"\\{found[0]}", text)


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
        "after each block (1e-5, relative), and magnitude, Wanda, SparseGPT, SwiftPrune, sketched "
        "and full OBS reach a sparsity of 0.5. *Reloads*: its pruned checkpoint, loaded with stock "
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
        told, reason = escaped(checkpoint), escaped(reason)
        name = f"{verdict.family} | {verdict.architecture} | {verdict.outcome}"
        print(f"| {name} | {told} | {reason} |")
    print_encoders()


if __name__ == "__main__":
    main()
