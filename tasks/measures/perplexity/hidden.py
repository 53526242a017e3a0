"""The dense model's hidden states on disk: what agreement is computed from.

They are what its LM head takes, of every token that predicts, in one safetensors file of a fixed
layout: each process writes its windows into their place, and reads those that it needs. For a
hidden size of 4 096 in bfloat16 that is 8 KiB a token.

Shapes: ``N`` windows, ``B`` some of them, ``P`` predicting tokens of a window, ``X`` hidden size.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

HIDDEN = "hidden.safetensors"
_NAME = "hidden"
_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}


class HiddenWriter:
    """Writes windows of any number in any order; several processes may write one file together.

    Args:
        windows: in all.
    """

    def __init__(self, path: Path, windows: int) -> None:
        self._path, self._windows = path, windows
        self._file: Any = None

    def __call__(self, first: int, states_BPX: Tensor) -> None:
        """Write the windows from the one of number ``first``."""
        header = _header(self._windows, states_BPX)
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.touch()
            self._file = self._path.open("r+b")
            # Every process writes the same header and the same length.
            self._file.write(header)
            self._file.truncate(len(header) + self._windows * _bytes(states_BPX[:1]))
        self._file.seek(len(header) + first * _bytes(states_BPX[:1]))
        self._file.write(states_BPX.contiguous().cpu().view(torch.uint8).numpy())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class HiddenReader:
    """Reads windows back; the file is mapped, so they take memory only while in use."""

    def __init__(self, path: Path) -> None:
        from safetensors import safe_open

        self._slice = safe_open(path, framework="pt").get_slice(_NAME)

    def __getitem__(self, windows: slice) -> Tensor:
        """``B × P × X``."""
        return self._slice[windows]


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _header(windows: int, states_BPX: Tensor) -> bytes:
    """Length and JSON, as the format begins: https://huggingface.co/docs/safetensors."""
    entry = {
        "dtype": _DTYPES[states_BPX.dtype],
        "shape": [windows, *states_BPX.shape[1:]],
        "data_offsets": [0, windows * _bytes(states_BPX[:1])],
    }
    text = json.dumps({_NAME: entry}).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of eight
    return len(text).to_bytes(8, "little") + text
