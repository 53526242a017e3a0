"""The step that collects statistics of the dense model's activations, once for all methods."""

from __future__ import annotations

import time

import torch
from safetensors.torch import load_file, save_file

from tasks.data.texts import Windows, load_tokens
from tasks.models.architecture.decoder import describe
from tasks.models.files import share
from tasks.models.resident import dense_model
from tasks.pruning.core.driver import collect_statistics
from tasks.pruning.core.statistics import VECTORS, ColumnStatistics
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

VERSION = 4
"""Raise it when the statistics change: artifacts of the former version are not reused."""
_FILE = "statistics.safetensors"
_COUNTS = "counts"
"""Of a layer: windows and tokens, int64. An expert has its own."""


def statistics_step(model: Step, windows: Windows, count: int, dtype: str) -> Step:
    """Column statistics of every layer's inputs.

    Args:
        count: how many of the windows they are collected on.
        dtype: that the model computes in.
    """
    return Step(
        name="statistics",
        version=VERSION,
        inputs={"windows": count, "dtype": dtype},
        needs={"model": model, "tokens": windows.step},
        produce=_produce,
        label="statistics",
        group=model.group,
    )


def _produce(work: Work) -> Facts:
    inputs = work.step.inputs
    tokens = load_tokens(work.need("tokens"))[: inputs["windows"]]
    dense = dense_model(work.context, work.need("model").path, inputs["dtype"])
    start = time.perf_counter()
    found = collect_statistics(describe(dense), tokens, progress=work.progress)
    seconds = time.perf_counter() - start
    tensors = {
        f"{name}.{vector}": getattr(entry, vector)
        for name, entry in found.items()
        for vector in VECTORS
    }
    tensors |= {
        f"{name}.{_COUNTS}": torch.tensor([entry.windows, entry.tokens])
        for name, entry in found.items()
    }
    save_file(tensors, work.out / _FILE)
    share(work.out / _FILE)
    return {"seconds": seconds, "windows": tokens.shape[0], "tokens": tokens.numel()}


def load_statistics(artifact: Artifact) -> dict[str, ColumnStatistics]:
    """Layer name → column statistics."""
    tensors = load_file(artifact.path / _FILE)
    found: dict[str, ColumnStatistics] = {}
    for name in dict.fromkeys(name.rpartition(".")[0] for name in tensors):
        windows, tokens = tensors[f"{name}.{_COUNTS}"].tolist()
        vectors = {vector: tensors[f"{name}.{vector}"] for vector in VECTORS}
        found[name] = ColumnStatistics(**vectors, windows=windows, tokens=tokens)
    return found
