"""Writing a file so that a reader sees the old bytes or the new ones, and telling them apart."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def stamp(path: Path) -> list[int]:
    """What changes when a file does: size, times of its contents and of anything, inode."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def write_atomically(path: Path, content: bytes, *, make_folder: bool = True) -> None:
    """Write to a temporary name in the same folder, sync, rename.

    The temporary file is made with ``open`` and not ``tempfile``, whose 0600 would lock out the
    other users of a shared folder.

    Raises:
        OSError: when the folder cannot be written; ``path`` is then as it was.
    """
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # Some network file systems refuse to sync a folder; the rename stands all the same.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
