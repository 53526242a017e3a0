"""``secateur gc``: drops artifacts that no sweep needs, and what dead processes left."""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from configs.errors import ConfigurationError
from tasks.store.files import size_of
from tasks.store.home import home
from tasks.store.needs import LISTING, needed_artifacts, needs_settled
from tasks.store.store import remove_folder

_HOUR = 3600.0


def collect_garbage(console: Console, *, dry_run: bool) -> None:
    """Remove artifacts that no sweep lists, and temporary folders of dead processes.

    An artifact or folder whose lock another process holds is in use and stays.
    """
    with needs_settled():
        _collect(console, home(), _needed(), dry_run)


def _collect(console: Console, root: Path, needed: set[str], dry_run: bool) -> None:
    removed = freed = 0
    fingerprints = {place.partition("/")[2] for place in needed}
    for path in _folders(root, "artifacts", "*/*"):
        if f"{path.parent.name}/{path.name}" in needed:
            continue
        removed, freed = _account(root, path, dry_run, removed, freed)
    for path in _folders(root, "evaluation", "*"):
        removed, freed = _account(root, path, dry_run, removed, freed)
    for path in _folders(root, "training", "*"):
        # A sweep that was interrupted goes on from here, whatever of it trains.
        if path.name not in fingerprints:
            removed, freed = _account(root, path, dry_run, removed, freed)
    for path in _folders(root, "tmp", "*"):
        removed, freed = _account(root, path, dry_run, removed, freed)
    if not dry_run:
        for path in _folders(root, "artifacts", "probe.*"):  # a kill may leave it, and it is empty
            with contextlib.suppress(OSError):
                path.rmdir()
        _drop_locks(root, fingerprints)
    verb = "would remove" if dry_run else "removed"
    sweeps = len(list((root / "sweeps").glob(f"*/{LISTING}")))
    console.print(
        f"{verb} {removed} folders, {freed / 1e6:.0f} MB; {len(needed)} artifacts are needed by "
        f"{sweeps} sweeps and what runs now",
        highlight=False,
    )


def _folders(root: Path, room: str, pattern: str) -> list[Path]:
    """What secateur makes is a folder: files and links that somebody else put there stay."""
    found = sorted((root / room).glob(pattern))
    return [path for path in found if path.is_dir() and not path.is_symlink()]


def _needed() -> set[str]:
    try:
        return needed_artifacts()
    except ValueError as error:
        raise ConfigurationError(
            "artifacts.json",
            str(error),
            "it must list the sweep's artifacts",
            "Run the sweep again, or delete its folder; nothing was removed.",
        ) from error


def _account(root: Path, path: Path, dry_run: bool, removed: int, freed: int) -> tuple[int, int]:
    size = size_of(path)
    if not _remove(root, path, dry_run):
        return removed, freed
    return removed + 1, freed + size


def _remove(root: Path, path: Path, dry_run: bool) -> bool:
    """Remove a folder unless its fingerprint is locked; False when it stays."""
    fingerprint = path.name.partition(".")[0]
    (root / "locks").mkdir(exist_ok=True)
    lock = FileLock(root / "locks" / f"{fingerprint}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    try:
        if not dry_run and path.parent.name == "tmp":
            shutil.rmtree(path, ignore_errors=True)
        elif not dry_run:
            remove_folder(path, root / "tmp")
    finally:
        lock.release()
    return True


def _drop_locks(root: Path, kept: set[str]) -> None:
    """Delete lock files of artifacts that are gone, once nobody can still be about to use them."""
    for path in (root / "locks").glob("*.lock"):
        mine = re.fullmatch(r"[0-9a-f]{64}|needs[0-9a-f]{16}", path.stem)
        old = time.time() - path.stat().st_mtime > _HOUR
        if mine and path.stem not in kept and old:
            # A training can hold its lock for days.
            with contextlib.suppress(Timeout), FileLock(path).acquire(timeout=0):
                path.unlink(missing_ok=True)
