"""Models in memory: the dense one, and the pruned one that is measured; one of each at most.

A model that is spread over devices is alone. It takes what is free when it is planned, so beside
another it would lie elsewhere, and leave no room for one that comes after it.
"""

from __future__ import annotations

import gc
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.models.load import best_device, load_model, resolve_dtype, weight_bytes
from tasks.models.placement import load_placed
from tasks.models.saved.pruned import load_pruned
from tasks.runtime.memory import obtainable
from tasks.store.context import Context

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SHARE = 0.8
"""Of a GPU, what weights may take of it; the rest is for activations and what methods collect."""
_LARGE = (
    "Figures of a model that one GPU does not hold are measured with evaluation.device_map: auto, "
    "and one-shot methods prune it block by block from main memory. What needs all of it at once "
    "does not go: ast, policy_gradient, flip_gradient, coresets, and the members of an ensemble"
)
DENSE, PRUNED, PLACED = "dense model", "pruned model", "placed model"


def dense_model(
    context: Context, folder: Path, dtype: str, *, by_block: bool = False
) -> PreTrainedModel:
    """A model as it came, shared by every step that reads it; never changed.

    Args:
        by_block: whether the caller brings one block at a time to ``best_device()``; a model that
            leaves too little room there then stays in main memory.

    Raises:
        ConfigurationError: it is larger than the GPU, and the caller needs all of it there.
    """
    home = _home(folder, resolve_dtype(dtype, best_device()), context.trust, by_block=by_block)

    def load() -> PreTrainedModel:
        context.loaded.release(PLACED)
        return load_model(folder, resolve_dtype(dtype, best_device()), home, context.trust)

    return context.loaded.get(DENSE, (folder, dtype, home), load, _collect)


def _home(folder: Path, dtype: torch.dtype, trust: Trust, *, by_block: bool) -> torch.device:
    """Where all of a model lies."""
    device = best_device()
    if device.type != "cuda":
        return device
    size, room = weight_bytes(folder, dtype, trust), obtainable(device)
    if by_block and size > _SHARE * room:
        return torch.device("cpu")
    if size > room:
        told = f"its weights take {size / 2**30:.1f} GiB, and the GPU has {room / 2**30:.1f} GiB"
        raise ConfigurationError("models", folder.name, told, _LARGE)
    return device


def pruned_model(context: Context, folder: Path, dtype: str) -> PreTrainedModel:
    """A checkpoint; heads and channels that were removed are not computed."""
    device = best_device()

    def load() -> PreTrainedModel:
        context.loaded.release(PLACED)
        return load_pruned(folder, resolve_dtype(dtype, device), device, context.trust)

    return context.loaded.get(PRUNED, (folder, dtype), load, _collect)


def placed_model(
    context: Context, folder: Path, dtype: str, max_memory: Mapping[str, str]
) -> PreTrainedModel:
    """A model that is spread over devices, memory and disk."""
    scratch: list[Path] = []

    def load() -> PreTrainedModel:
        context.loaded.release(DENSE, PRUNED)
        # Weights on disk while it is spread; no other process may use the folder.
        scratch.append(Path(tempfile.mkdtemp(prefix="secateur-placed-")))
        try:
            return load_placed(
                folder,
                resolve_dtype(dtype, best_device()),
                context.trust,
                max_memory=max_memory,
                scratch=scratch[0],
            )
        except BaseException:
            release()
            raise

    def release() -> None:
        for path in scratch:
            shutil.rmtree(path, ignore_errors=True)
        _collect()

    key = (folder, dtype, tuple(sorted(max_memory.items())))
    return context.loaded.get(PLACED, key, load, release)


def leave_gpus(context: Context) -> None:
    """Give up the models that lie on GPUs, which other processes are about to need."""
    if best_device().type == "cuda":
        context.loaded.release(DENSE, PRUNED, PLACED)


@contextmanager
def in_main_memory(model: nn.Module) -> Iterator[None]:
    """Bring a model that is still needed away from its GPU meanwhile, and back."""
    device = next(model.parameters()).device
    model.to("cpu")
    _collect()
    try:
        yield
    finally:
        model.to(device)


def _collect() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
