"""SHA-256 of files, remembered for large ones.

The memory is one JSON file, keyed by what changes when a file does: its real path, size, times and
inode. It only saves time: without it, or when it cannot be read, the digest is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.store.files import stamp

MEMORY = "digests.json"
"""The file in a home that remembers digests."""
REMEMBERED_FROM = 16 * 2**20
"""Bytes; hashing less takes no longer than looking it up."""


def digest_of(value: Any) -> str:
    """SHA-256 hex of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path, memory: Path | None = None) -> str:
    """SHA-256 hex of a file's bytes.

    Args:
        memory: the JSON file that remembers digests of large files; None computes it always.
    """
    key = _key(path)
    large = path.stat().st_size > REMEMBERED_FROM
    if memory is not None and large:
        known = _read(memory).get(key)
        if known is not None:
            return known
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    # A file that changed while it was read must not be remembered under either of its states.
    if memory is not None and large and _key(path) == key:
        _remember(memory, key, digest)
    return digest


def folder_digest(files: Mapping[str, Path], memory: Path | None = None) -> str:
    """SHA-256 hex of named files, independent of where they lie.

    Args:
        files: name inside the folder → path.
        memory: see :func:`file_digest`.
    """
    return digest_of({name: file_digest(path, memory) for name, path in files.items()})


def _key(path: Path) -> str:
    real = path.resolve()
    return "|".join(map(str, (real, *stamp(real))))


def _read(memory: Path) -> dict[str, str]:
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {
        key: value
        for key, value in content.items()
        if isinstance(value, str) and len(value) == hashlib.sha256().digest_size * 2
    }


def _remember(memory: Path, key: str, digest: str) -> None:
    # Read again, to keep what another process wrote meanwhile. A lost entry costs time only.
    content = _read(memory) | {key: digest}
    temporary = ""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=memory.parent, prefix=f".{memory.name}.", delete=False
        ) as stream:
            temporary = stream.name
            json.dump(content, stream, indent=0, sort_keys=True)
        Path(temporary).replace(memory)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # noqa: PTH108 (may be the empty string)
