"""Content-addressed artifacts: fingerprint → directory.

A step's artifact is written to a temporary folder, its manifest (sizes and SHA-256) last, then
renamed, so a folder under its final name is complete. It is verified when read; a damaged one is
reported, dropped and computed again. A file lock for each fingerprint keeps two processes from
computing the same thing; it ends with its holder, however that dies.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tasks.store.steps import Step, fingerprint

log = logging.getLogger("secateur.store")

MANIFEST = "manifest.json"
_CHUNK = 64 << 20
_SECONDS_BEFORE_WAITING_IS_REPORTED = 2.0


class StorageFullError(OSError):
    """The disk has no room for an artifact; nothing was left behind."""


@dataclass(frozen=True)
class Artifact:
    """A complete directory of the store, and the facts that its step recorded."""

    path: Path
    facts: Mapping[str, Any]
    reused: bool


class Store:
    """The artifacts below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # What this process wrote or has read in full: re-hashing it would find nothing new.
        self._verified: set[tuple[Path, int]] = set()

    def path(self, place: str) -> Path:
        """Where an artifact is, or would be: ``place`` is ``step name/fingerprint``."""
        return self.root / "artifacts" / place

    def find(self, place: str, *, contents: bool = False) -> Artifact | None:
        """The artifact at a place, or None when there is none or it is damaged.

        Args:
            contents: compare every file's SHA-256, not only its size; ask for it before the
                artifact's large files are used. Small files are always compared.
        """
        path = self.path(place)
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            self._verify(path, manifest, contents=contents)
        except (FileNotFoundError, NotADirectoryError) as error:
            if path.exists():
                log.warning("artifact %s lacks %s; it is computed again", path, error.filename)
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("artifact %s is damaged (%s); it is computed again", path, error)
            return None
        return Artifact(path, manifest["facts"], reused=True)

    def _verify(self, path: Path, manifest: Mapping[str, Any], *, contents: bool) -> None:
        if manifest["fingerprint"] != path.name:
            raise ValueError("its manifest is another artifact's")
        if manifest["facts_sha256"] != fingerprint(manifest["facts"]):
            raise ValueError("its facts have another SHA-256 than when they were written")
        stamp = (path, (path / MANIFEST).stat().st_mtime_ns)
        for name, entry in manifest["files"].items():
            size = (path / name).stat().st_size
            if size != entry["bytes"]:
                raise ValueError(f"{name} has {size} bytes, not {entry['bytes']}")
            small = size <= 1 << 20
            unread = stamp not in self._verified
            if (small or (contents and unread)) and _sha256(path / name) != entry["sha256"]:
                raise ValueError(f"{name} has another SHA-256 than when it was written")
        if contents:
            self._verified.add(stamp)

    def get_or_create(
        self, step: Step, produce: Callable[[Path], Mapping[str, Any]], *, contents: bool = False
    ) -> Artifact:
        """The step's artifact, computed unless it is there.

        Args:
            produce: writes files into the folder it is given and returns the facts to record;
                its exceptions pass through, with nothing left behind.
            contents: as in :meth:`find`.

        Raises:
            StorageFullError: when the disk has no room.
        """
        if found := self.find(step.place, contents=contents):
            return found
        with self.lock(step.place):
            if found := self.find(step.place, contents=contents):
                return found
            self.drop(step.place)
            return self._create(step, produce)

    def _create(self, step: Step, produce: Callable[[Path], Mapping[str, Any]]) -> Artifact:
        final = self.path(step.place)
        self._remove_leftovers(step)
        owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        temporary = self.root / "tmp" / f"{step.fingerprint}.{owner}"
        try:
            temporary.mkdir(parents=True)
            facts = dict(produce(temporary))
            _write_manifest(temporary, step, facts)
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(final)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFullError(
                    error.errno, f"no room for the {step.name} artifact below {self.root}"
                ) from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._verified.add((final, (final / MANIFEST).stat().st_mtime_ns))
        return Artifact(final, facts, reused=False)

    @contextmanager
    def lock(self, place: str) -> Iterator[None]:
        """Hold the lock of a place; says so when another process holds it."""
        name, _, held = place.rpartition("/")
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{held}.lock")
        try:
            lock.acquire(timeout=_SECONDS_BEFORE_WAITING_IS_REPORTED)
        except Timeout:
            log.warning("waiting for another process that computes %s", name)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def drop(self, place: str) -> None:
        """Remove an artifact, so that no reader ever sees half of it."""
        remove_folder(self.path(place), self.root / "tmp")

    def _remove_leftovers(self, step: Step) -> None:
        # Only the lock's holder comes here, so these belong to processes that died.
        for leftover in (self.root / "tmp").glob(f"{step.fingerprint}.*"):
            shutil.rmtree(leftover, ignore_errors=True)


def remove_folder(path: Path, graveyard: Path) -> None:
    """Rename a folder out of sight, then delete it."""
    graveyard.mkdir(parents=True, exist_ok=True)
    grave = graveyard / f"{path.name}.dropped-{uuid.uuid4().hex[:8]}"
    try:
        path.rename(grave)
    except FileNotFoundError:
        return
    shutil.rmtree(grave, ignore_errors=True)


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


def _write_manifest(folder: Path, step: Step, facts: Mapping[str, Any]) -> None:
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
        "facts_sha256": fingerprint(facts),
        "files": files,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with (folder / MANIFEST).open("w") as file:
        json.dump(manifest, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
