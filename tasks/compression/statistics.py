"""The step that collects statistics of the dense model's activations, once for all methods."""

from __future__ import annotations

import json
import time

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tasks.data.texts import load_tokens
from tasks.models.architecture.decoder import describe
from tasks.models.files import share
from tasks.models.load import best_device
from tasks.models.resident import dense_model
from tasks.pruning.core.driver import collect_statistics
from tasks.pruning.core.statistics import ColumnStatistics
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

VERSION = 5
"""Raise it when the statistics change: artifacts of the former version are not reused."""
_FILE = "statistics.safetensors"
_COUNTS = "counts"
"""Of a layer: windows and tokens, int64. An expert has its own."""
_SAME = "same"
"""In the file's metadata: layer → the layer under whose name the sums of its input stand."""


def statistics_step(model: Step, tokens: Step, count: int, dtype: str, sketch: int = 0) -> Step:
    """Column statistics of every layer's inputs.

    Args:
        count: how many of the windows they are collected on.
        dtype: that the model computes in.
        sketch: columns of the second moments' sketch; 0: none.
    """
    return Step(
        name="statistics",
        version=VERSION,
        inputs={"windows": count, "dtype": dtype} | ({"sketch": sketch} if sketch else {}),
        needs={"model": model, "tokens": tokens},
        produce=_produce,
        label="statistics",
        group=model.group,
    )


def _produce(work: Work) -> Facts:
    inputs = work.step.inputs
    tokens = load_tokens(work.need("tokens"))[: inputs["windows"]]
    dense = dense_model(work.context, work.need("model").path, inputs["dtype"], by_block=True)
    start = time.perf_counter()
    found = collect_statistics(
        describe(dense),
        tokens,
        sketch=inputs.get("sketch", 0),
        device=best_device(),
        progress=work.progress,
    )
    seconds = time.perf_counter() - start
    owners: dict[ColumnStatistics, str] = {}
    same = {name: owners.setdefault(entry, name) for name, entry in found.items()}
    tensors = {
        f"{name}.{sums}": tensor
        for entry, name in owners.items()
        for sums, tensor in entry.tensors().items()
    }
    tensors |= {
        f"{name}.{_COUNTS}": torch.tensor([entry.windows, entry.tokens])
        for entry, name in owners.items()
    }
    save_file(tensors, work.out / _FILE, metadata={_SAME: json.dumps(same)})
    share(work.out / _FILE)
    return {"seconds": seconds, "windows": tokens.shape[0], "tokens": tokens.numel()}


def load_statistics(artifact: Artifact) -> dict[str, ColumnStatistics]:
    """Layer name → column statistics; layers that share an input share one object."""
    sums: dict[str, dict[str, torch.Tensor]] = {}
    with safe_open(artifact.path / _FILE, framework="pt") as file:
        same: dict[str, str] = json.loads(file.metadata()[_SAME])
        for key in file.keys():  # noqa: SIM118 - not a dictionary
            name, _, entry = key.rpartition(".")
            sums.setdefault(name, {})[entry] = file.get_tensor(key)
    found: dict[str, ColumnStatistics] = {}
    for name, tensors in sums.items():
        windows, tokens = tensors.pop(_COUNTS).tolist()
        found[name] = ColumnStatistics(**tensors, windows=windows, tokens=tokens)
    return {name: found[owner] for name, owner in same.items()}
