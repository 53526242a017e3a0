"""Reads the header of a GGUF file, to know in milliseconds whether the whole file is there.

Format: ggml's ``docs/gguf.md``, versions 2 and 3. The ``gguf`` package's own reader builds one
object per vocabulary entry, which takes seconds, and reports truncation as a failed reshape.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
VERSIONS = (2, 3)

# Value type → its struct code.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT = 32
_LONGEST_ARRAY = 1024
"""Numbers. Arrays of a value a layer are shorter, those of a value a token longer."""


class GgufError(ValueError):
    """A file that is no complete GGUF file; the message is a phrase that says why."""


@dataclass(frozen=True)
class GgufHeader:
    """What the header says.

    Attributes:
        metadata: every key; the value of a short array of numbers is a tuple, of any other its
            length.
        shapes: of the tensors by name, as the file has them: in-features first.
        places: of the tensors by name: ggml's number of the type, and the byte of the file at which
            the data begins.
        size: bytes that the whole file must have at least.
    """

    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    places: dict[str, tuple[int, int]]
    size: int

    def of(self, key: str, default: Any) -> Any:
        """The value of a key of the file's architecture."""
        return self.metadata.get(f"{self.metadata.get('general.architecture')}.{key}", default)

    @property
    def share(self) -> int:
        """A head's share of the embedding; 0 in a model without heads, such as Mamba."""
        heads = self.of("attention.head_count", 1)
        heads = max(heads) if isinstance(heads, tuple) else heads
        return self.of("embedding_length", 0) // heads if heads else 0


class _Cursor:
    def __init__(self, data: mmap.mmap) -> None:
        self.data = data
        self.offset = 0

    def skip(self, count: int) -> int:
        """Move on; the offset from before."""
        start = self.offset
        self.offset += count
        if self.offset > len(self.data):
            raise GgufError("it is cut off inside its header")
        return start

    def take(self, code: str) -> Any:
        layout = struct.Struct("<" + code)
        return layout.unpack_from(self.data, self.skip(layout.size))[0]

    def text(self) -> str:
        length = self.take("Q")
        start = self.skip(length)
        return self.data[start : start + length].decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.take(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        raise GgufError(f"its header holds a value of unknown type {kind}")

    def _array(self) -> int | tuple[Any, ...]:
        kind, length = self.take("I"), self.take("Q")
        if kind in _SCALARS and length <= _LONGEST_ARRAY:
            return tuple(self.take(_SCALARS[kind]) for _ in range(length))
        if kind in _SCALARS:
            self.skip(length * struct.calcsize("<" + _SCALARS[kind]))
        elif kind == _STRING:
            for _ in range(length):
                self.skip(self.take("Q"))
        else:
            for _ in range(length):
                self.value(kind)
        return length


def read_header(path: Path) -> GgufHeader:
    """Parse the header of ``path``.

    Raises:
        GgufError: when this is no GGUF file, one of an unknown version, or its header is cut off.
        OSError: when it cannot be read.
    """
    with path.open("rb") as stream:
        start = stream.read(8)
        if start[:4] != MAGIC:
            raise GgufError("it does not begin with the letters GGUF")
        if len(start) < 8:
            raise GgufError("it is cut off inside its header")
        version = struct.unpack("<I", start[4:])[0]
        if version not in VERSIONS:
            raise GgufError(f"its version is {version}; little-endian {VERSIONS} are known")
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            cursor = _Cursor(data)
            cursor.skip(8)
            return _parse(cursor)


def check_complete(path: Path) -> GgufHeader:
    """Parse the header and compare what it promises with the file's size.

    Raises:
        GgufError: as :func:`read_header`, and when tensor data is missing.
    """
    status = path.stat()
    return _complete(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)  # a large vocabulary takes seconds, and a sweep asks several times
def _complete(path: Path, actual: int, changed: int) -> GgufHeader:
    del changed
    header = read_header(path)
    if actual < header.size:
        raise GgufError(f"it is cut off: {actual:,} bytes of at least {header.size:,}")
    if not header.shapes:
        raise GgufError("it holds no tensors")
    return header


def _parse(cursor: _Cursor) -> GgufHeader:
    tensors, pairs = cursor.take("Q"), cursor.take("Q")
    metadata = {}
    for _ in range(pairs):
        key = cursor.text()
        metadata[key] = cursor.value(cursor.take("I"))
    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, tuple[int, int]] = {}
    ends = [_tensor_end(cursor, shapes, places) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0:
        raise GgufError(f"its alignment is {alignment!r}")
    data_start = -(-cursor.offset // alignment) * alignment
    places = {name: (kind, data_start + offset) for name, (kind, offset) in places.items()}
    return GgufHeader(metadata, shapes, places, data_start + max(ends, default=0))


def _tensor_end(
    cursor: _Cursor, shapes: dict[str, tuple[int, ...]], places: dict[str, tuple[int, int]]
) -> int:
    """Where the tensor ends, counted from the start of the data, as its place in ``places`` is."""
    from gguf.constants import GGML_QUANT_SIZES

    name = cursor.text()
    shape = [cursor.take("Q") for _ in range(cursor.take("I"))]
    shapes[name] = tuple(shape)
    kind, offset = places[name] = cursor.take("I"), cursor.take("Q")
    if kind not in GGML_QUANT_SIZES:
        raise GgufError(f"tensor {name} has type {kind}, which the installed gguf does not know")
    values, size = GGML_QUANT_SIZES[kind]
    return offset + math.prod(shape) * size // values
