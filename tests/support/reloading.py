"""Pruned checkpoints of many families, written as a sweep writes them, loaded by transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from support import families
from torch import Tensor

from configs.trust import Trust
from tasks.measures.perplexity.perplexity import perplexity
from tasks.models.architecture.decoder import describe
from tasks.models.examine import unread_tensors
from tasks.models.load import load_model
from tasks.models.saved.save import save_checkpoint
from tasks.pruning.core import driver
from tasks.pruning.core.targets import Fraction
from tasks.pruning.magnitude import Magnitude

RELATIVE = 1e-6
"""What a checkpoint's perplexity may differ by from that of the model that was pruned."""


def reload_difference(family: str, folder: Path) -> float:
    """The relative difference of perplexities: the pruned model in memory, its checkpoint loaded.

    Args:
        folder: an empty one; the family's source and its checkpoint are written there.

    Raises:
        AssertionError: a weight or a name in the checkpoint's files is another.
        Exception: whatever keeps the family from being loaded, pruned, saved or loaded again.
    """
    from transformers import AutoModelForCausalLM

    source, out, tokens_NL = folder / "source", folder / "out", families.windows()
    families.model_of(family).save_pretrained(source)
    dense = load_model(source, torch.float32, torch.device("cpu"), Trust())
    weights = driver.prune(Magnitude(), describe(dense), Fraction(0.5)).weights
    save_checkpoint(
        dense, source, weights, out, dtype=torch.float32, metadata={},
        unread=unread_tensors(source, Trust()),
    )  # fmt: skip
    assert names_in(source) == names_in(out), "the checkpoint names its tensors otherwise"
    dense.load_state_dict(dict(weights), strict=False)
    loaded: Any = AutoModelForCausalLM.from_pretrained(out, local_files_only=True).eval()
    _require_same(dense.state_dict(), loaded.state_dict())
    expected, found = (perplexity(model, tokens_NL).perplexity for model in (dense, loaded))
    return abs(found - expected) / expected


def names_in(folder: Path) -> set[str]:
    """Of all tensors in a folder's files."""
    from safetensors import safe_open

    names: set[str] = set()
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names |= set(file.keys())
    return names


def _require_same(expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    assert expected.keys() == found.keys(), sorted(expected.keys() ^ found.keys())
    differing = [name for name, weight in found.items() if not torch.equal(weight, expected[name])]
    assert not differing, differing[:3]
