"""What an artifact's files were when they were written, and whether they still are.

Every file is hashed. One that was hashed before is hashed again only when its size, its times or
its inode have changed since.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.store.files import stamp, write_atomically
from tasks.store.steps import Step, fingerprint

MANIFEST = "manifest.json"
VERIFIED = ".verified.json"
"""Beside the manifest: what the files' stamps were when they were last hashed."""
_CHUNK = 64 << 20


class DamagedError(ValueError):
    """An artifact's files are not those that were written."""


def remember(path: Path) -> None:
    """Note that an artifact has just been written: nothing of it need be read again."""
    _remember(path, _stamps(path, read_manifest(path)["files"]))


def read_manifest(path: Path) -> dict[str, Any]:
    """An artifact's manifest.

    Raises:
        DamagedError: it is not as it was written.
        FileNotFoundError: there is none.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        written = manifest.pop("sha256")
        if written != fingerprint(manifest):
            raise DamagedError(f"{MANIFEST} has another SHA-256 than when it was written")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(str(error)) from error
    return manifest


def read_whole(path: Path, *, afresh: bool = False) -> dict[str, Any]:
    """The manifest of an artifact all of whose files are as they were written.

    Args:
        afresh: hash every file, whatever is remembered of it.

    Raises:
        DamagedError: a file has another size or SHA-256.
        FileNotFoundError: one is missing.
    """
    manifest = read_manifest(path)
    if manifest["fingerprint"] != path.name:
        raise DamagedError("its manifest is another artifact's")
    stamps = _stamps(path, manifest["files"])
    remembered = {} if afresh else _remembered(path)
    for name, entry in manifest["files"].items():
        size = stamps[name][0]
        if size != entry["bytes"]:
            raise DamagedError(f"{name} has {size} bytes, not {entry['bytes']}")
        known = remembered.get(name) == stamps[name]
        if not known and _sha256(path / name) != entry["sha256"]:
            raise DamagedError(f"{name} has another SHA-256 than when it was written")
    if stamps != remembered:
        _remember(path, stamps)
    return manifest


def _stamps(path: Path, names: Iterable[str]) -> dict[str, list[int]]:
    return {name: stamp(path / name) for name in names}


def _remembered(path: Path) -> dict[str, list[int]]:
    with suppress(OSError, ValueError):
        known = json.loads((path / VERIFIED).read_bytes())
        if isinstance(known, dict):
            return known
    return {}


def _remember(path: Path, stamps: Mapping[str, list[int]]) -> None:
    # A store that may only be read is hashed each time; an artifact that was just dropped is gone.
    with suppress(OSError):
        write_atomically(path / VERIFIED, json.dumps(stamps).encode(), make_folder=False)


def _sha256(path: Path) -> list[str]:
    """SHA-256 of each 64 MiB of a file, computed on all cores: checkpoints are large."""
    starts = range(0, max(path.stat().st_size, 1), _CHUNK)

    def digest(start: int) -> str:
        with path.open("rb") as file:
            file.seek(start)
            return hashlib.sha256(file.read(_CHUNK)).hexdigest()

    if len(starts) == 1:
        return [digest(0)]
    with ThreadPoolExecutor(min(len(starts), os.cpu_count() or 1)) as pool:
        return list(pool.map(digest, starts))


def write_manifest(folder: Path, step: Step, facts: Mapping[str, Any]) -> None:
    """Write, last of all, what the folder holds and which step made it."""
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {
        "step": step.name,
        "fingerprint": step.fingerprint,
        "version": step.version,
        "inputs": dict(step.inputs),
        "needs": {role: need.place for role, need in step.needs.items()},
        "facts": facts,
        "files": files,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    manifest["sha256"] = fingerprint(manifest)
    with (folder / MANIFEST).open("w") as file:
        json.dump(manifest, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
