"""A safetensors file whose tensors are filled in place: they need the disk's room, not memory's."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

_BYTES = 4
"""Of a float32."""


def mapped(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Write a file of float32 zeros, and map its tensors: what is put into them is in the file.

    Raises:
        OSError: the disk has no room for it. It is taken now: a mapped file that cannot grow would
            end the process.
    """
    ends = {}
    begin = 0
    for name, shape in shapes.items():
        ends[name] = (begin, begin := begin + _BYTES * math.prod(shape))
    entries = {
        name: {"dtype": "F32", "shape": list(shape), "data_offsets": ends[name]}
        for name, shape in shapes.items()
    }
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    first, size = 8 + len(header), 8 + len(header) + begin
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.flush()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:  # macOS
            file.truncate(size)
    whole = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)
    return {
        name: whole[first + ends[name][0] : first + ends[name][1]].view(torch.float32).view(shape)
        for name, shape in shapes.items()
    }
