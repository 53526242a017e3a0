"""Names and shapes of a folder's tensors, without their values."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path

Shapes = Mapping[str, tuple[int, ...]]
"""Tensor's name in the files → its shape."""


def read_shapes(folder: Path, names: Iterable[str]) -> Shapes:
    """Shapes of the tensors in weight files, whose headers alone are read.

    Args:
        names: files of ``folder``; what holds no weights, such as an index, is passed over.

    Raises:
        OSError, ValueError: a file cannot be read.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in (folder / name for name in names):
        if path.suffix == ".safetensors":
            shapes |= _of_safetensors(path)
        elif path.suffix == ".bin":
            shapes |= _of_pickle(path)
    return shapes


def _of_safetensors(path: Path) -> Shapes:
    with path.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    header.pop("__metadata__", None)
    return {name: tuple(entry["shape"]) for name, entry in header.items()}


def _of_pickle(path: Path) -> Shapes:
    import torch

    try:
        state = torch.load(path, map_location="meta", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise ValueError(f"{path.name} holds more than tensors: {error}") from error
    return {name: tuple(t.shape) for name, t in state.items() if isinstance(t, torch.Tensor)}
