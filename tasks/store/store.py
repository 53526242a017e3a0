"""Content-addressed artifacts: fingerprint → directory.

A step's artifact is written to a temporary folder, its manifest last, then renamed, so a folder
under its final name is complete. It is verified in full whenever it is looked for; a damaged one
is reported, dropped and computed again. A file lock for each fingerprint keeps two processes from
computing the same thing; it ends with its holder, however that dies.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError
from tasks.store.files import size_of
from tasks.store.locks import waited_for
from tasks.store.manifest import VERIFIED, DamagedError, read_whole, remember, write_manifest
from tasks.store.steps import Step

log = logging.getLogger("secateur.store")


_SPARE = 16 << 20
"""Bytes for what databases, logs and reports write beside the artifacts."""


class StorageFullError(OSError):
    """The disk has no room; nothing was left behind."""

    def __init__(self, folder: Path, what: str, said: str = "") -> None:
        self.folder, self.what, self.said = folder, what, said
        with suppress(OSError):
            what = f"{what}: {shutil.disk_usage(folder).free / 1e6:,.0f} MB are free"
        hint = "Make room there, or name another home with SECATEUR_HOME"
        told = f" (it was said: {said})" if said else ""
        super().__init__(errno.ENOSPC, f"{folder} has no room for {what}. {hint}{told}")

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.folder, self.what, self.said))


_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "disk is full")
"""How libraries that write files and databases say so in errors of their own."""


def says_full(error: BaseException) -> bool:
    """Whether an error is a full disk's, by its number or, where a library wraps it, its words."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if isinstance(error, ConfigurationError):  # quotes what a user wrote
        return False
    return any(words.lower() in str(error).lower() for words in _FULL)


def _said(error: Exception) -> str:
    """What a library said, which may name another folder; empty for the system's own error."""
    return "" if isinstance(error, OSError) else " ".join(str(error).split())[-300:]


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
        self._told: dict[str, str] = {}

    def path(self, place: str) -> Path:
        """Where an artifact is, or would be: ``place`` is ``step name/fingerprint``."""
        return self.root / "artifacts" / place

    def find(self, place: str, *, afresh: bool = False) -> Artifact | None:
        """The artifact at a place, whole, or None when there is none or it is damaged.

        Args:
            afresh: hash every file, whatever is remembered of it: a disk can lose bytes unseen.
        """
        path = self.path(place)
        try:
            manifest = read_whole(path, afresh=afresh)
        except (FileNotFoundError, NotADirectoryError) as error:
            if path.exists():
                self._tell(place, f"artifact {path} lacks {error.filename}; it is computed again")
            return None
        except DamagedError as error:
            self._tell(place, f"artifact {path} is damaged ({error}); it is computed again")
            with suppress(OSError):  # whoever looks next shall see it too
                (path / VERIFIED).unlink(missing_ok=True)
            return None
        return Artifact(path, manifest["facts"], reused=True)

    def _tell(self, place: str, fault: str) -> None:
        """Once, however often a sweep looks there before it is mended."""
        if self._told.get(place) != fault:
            self._told[place] = fault
            log.warning(fault)

    def get_or_create(self, step: Step, produce: Callable[[Path], Mapping[str, Any]]) -> Artifact:
        """The step's artifact, computed unless it is there.

        Args:
            produce: writes files into the folder it is given and returns the facts to record;
                its exceptions pass through, with nothing left behind.

        Raises:
            StorageFullError: when the disk has no room.
        """
        if found := self.find(step.place):
            return found
        with self.lock(step.place):
            if found := self.find(step.place):
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
            write_manifest(temporary, step, facts)
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(final)
        except StorageFullError:
            raise
        except Exception as error:
            if says_full(error):
                raise StorageFullError(
                    self.root, f"the {step.name} artifact", _said(error)
                ) from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        remember(final)
        return Artifact(final, facts, reused=False)

    def require_room(self, like: Artifact | None, what: str) -> None:
        """Make sure that the disk has room for an artifact as large as one that is there.

        Args:
            what: that is to be written, for the error.

        Raises:
            StorageFullError: it has not.
        """
        size = size_of(like.path) if like else 0
        self.root.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self.root).free < size + _SPARE:
            needs = f"{what}, which needs {(size + _SPARE) / 1e6:,.0f} MB"
            raise StorageFullError(self.root, needs)

    @contextmanager
    def lock(self, place: str) -> Iterator[None]:
        """Hold the lock of a place; says so when another process holds it."""
        name, _, held = place.rpartition("/")
        with waited_for(self.root / "locks" / f"{held}.lock", f"computes {name}"):
            yield

    def drop(self, place: str) -> None:
        """Remove an artifact, so that no reader ever sees half of it."""
        remove_folder(self.path(place), self.root / "tmp")
        self._told.pop(place, None)

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
