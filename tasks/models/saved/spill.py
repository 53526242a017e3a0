"""Weights by name, each in a file of its own: those that nobody looks at take no memory.

Pruning a model makes a second set of its weights. Written as they are made and mapped when they
are read, they need the disk's room and not the memory's.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from pathlib import Path

from torch import Tensor

_NAME = "weight"


class SpilledWeights(MutableMapping[str, Tensor]):
    """A mapping whose values lie in ``folder``, which belongs to it and must not exist yet.

    A value read back is on the CPU and mapped from its file; whoever needs it longer than the
    folder lives copies it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._files: dict[str, Path] = {}

    def __setitem__(self, name: str, weight: Tensor) -> None:
        from safetensors.torch import save_file

        path = self._files.get(name) or self._folder / f"{len(self._files)}.safetensors"
        save_file({_NAME: weight.detach().cpu().contiguous()}, path)
        self._files[name] = path

    def __getitem__(self, name: str) -> Tensor:
        from safetensors.torch import load_file

        return load_file(self._files[name])[_NAME]

    def __delitem__(self, name: str) -> None:
        self._files.pop(name).unlink()

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)
