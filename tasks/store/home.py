"""Where everything that secateur writes lives: ``outputs/``, or the folder SECATEUR_HOME names."""

from __future__ import annotations

import errno
import os
import re
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from configs.errors import ConfigurationError
from configs.frozen import ALLOWED, SWEEP_NAME
from configs.paths import local_path
from tasks.store.files import write_atomically
from tasks.store.locks import waited_for
from tasks.store.store import Store


def home() -> Path:
    """The home folder, absolute; it need not exist yet.

    Raises:
        ConfigurationError: for what can be no folder.
        FileNotFoundError: the working folder is gone, and the path is relative.
    """
    given = os.environ.get("SECATEUR_HOME") or "outputs"
    path = local_path(given, "SECATEUR_HOME").absolute()
    try:
        there = next(known for known in (path, *path.parents) if known.exists())
    except OSError as error:  # a folder above it may not be entered
        raise _no_home(path, str(error)) from error
    if not there.is_dir():
        raise _no_home(path, f"{there} is no folder")
    return path


def _no_home(path: Path, reason: str) -> ConfigurationError:
    allowed = "the home must be a folder that can be written"
    return ConfigurationError("SECATEUR_HOME", path, allowed, reason)


def require_writable(folder: Path) -> None:
    """Make the home and write into it once.

    Raises:
        ConfigurationError: when it cannot be made or written.
        StorageFullError: its disk has no room.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        _require_one_disk(folder / "tmp", folder / "artifacts")
    except OSError as error:
        raise _no_home(folder, str(error)) from error
    Store(folder).require_room(None, "a sweep")


def _require_one_disk(start: Path, end: Path) -> None:
    """Rename a folder from one place to the other, as each artifact is."""
    if not end.exists():
        return  # and is made beside the other one
    start.mkdir(exist_ok=True)
    probe, room = (Path(tempfile.mkdtemp(prefix="probe.", dir=place)) for place in (start, end))
    try:
        probe.rename(room / probe.name)
    except FileNotFoundError:  # gc takes what a kill would leave; both were there a moment ago
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise ConfigurationError(
            "SECATEUR_HOME",
            start.parent,
            f"{start.name}/ and {end.name}/ must lie on one disk: artifacts are renamed",
            "Put the whole home on the other disk, or link both folders there.",
        ) from error
    finally:
        for folder in (probe, room / probe.name, room):
            with suppress(OSError):
                folder.rmdir()


def home_id(folder: Path) -> str:
    """What tells a home from others, wherever it is mounted; made on the first call."""
    path = folder / "home-id"
    with waited_for(folder / "locks" / "home-id.lock", "names the home"):
        if not path.exists():
            write_atomically(path, secrets.token_hex(16).encode())
    return path.read_text(encoding="ascii")


def sweep_folder(name: str) -> Path:
    """The results' folder of a sweep.

    Raises:
        ConfigurationError: for a name that would leave ``sweeps/``, also through a link, or where
            plots would be written through one.
    """
    if not re.fullmatch(SWEEP_NAME, name):
        raise ConfigurationError("name", name, ALLOWED[SWEEP_NAME])
    sweeps = home() / "sweeps"
    folder = sweeps / name
    if folder.is_symlink() and not folder.resolve().is_relative_to(sweeps.resolve()):
        raise ConfigurationError(
            "name", name, f"{folder} is a link that leads out of the home; nothing is written there"
        )
    if (plots := folder / "plots").is_symlink():
        raise ConfigurationError("name", name, f"{plots} is a link; nothing is written through it")
    return folder
