"""Which artifacts this home's sweeps and selections need, for those that drop what nobody does.

Each sweep lists its own beside its results. What a process needs only while it runs, such as a
selection, is listed in a folder of ``tmp/`` whose lock ends with the process.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tasks.store.files import write_atomically
from tasks.store.home import home
from tasks.store.locks import waited_for
from tasks.store.steps import Step

LISTING = "artifacts.json"
_TRAINING = "training"


@contextmanager
def needs_settled() -> Iterator[None]:
    """Hold the lock between what sweeps need and what is dropped.

    A sweep lists its needs under it before it counts anything as cached, and whoever drops an
    artifact reads the lists and drops under it: what was counted is there until it is used.
    """
    with waited_for(home() / "locks" / "needs.lock", "settles what sweeps need"):
        yield


def training_folder(root: Path, step: Step) -> Path:
    """Where a step that trains keeps what it goes on from after a kill, in the home ``root``."""
    return root / _TRAINING / step.fingerprint


def training_place(step: Step) -> str:
    """What a sweep lists that needs what is left of a training, and no longer its artifact."""
    return f"{_TRAINING}/{step.fingerprint}"


def list_needs(folder: Path, places: Iterable[str]) -> None:
    """Write what a sweep needs into its folder, which exists."""
    with needs_settled():
        write_atomically(folder / LISTING, json.dumps(list(places), indent=1).encode())


@contextmanager
def needed_meanwhile(steps: Iterable[Step]) -> Iterator[None]:
    """``gc`` keeps what these steps made, until the block or the process ends."""
    name = f"needs{secrets.token_hex(8)}"  # gc looks for the lock of this name
    folder = home() / "tmp" / name
    lock = home() / "locks" / f"{name}.lock"
    with waited_for(lock, "chooses windows"):
        try:
            folder.mkdir(parents=True)
            list_needs(folder, [step.place for step in steps if step.outside is None])
            yield
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def needed_artifacts(*, besides: str = "") -> set[str]:
    """What the sweeps and selections of this home need: ``step name/fingerprint``.

    Args:
        besides: a sweep whose own needs are left out.

    Raises:
        ValueError: when a list cannot be read; the message names it.
    """
    needed: set[str] = set()
    for listing in (home() / "tmp").glob(f"needs*/{LISTING}"):
        with suppress(FileNotFoundError):  # it ended since, and needs nothing
            needed.update(_listed(listing))
    for folder in (home() / "sweeps").glob("*"):
        listing = folder / LISTING
        if not listing.exists() and not (folder / "config.yaml").exists():
            continue  # no sweep's
        if folder.name == besides:
            continue
        try:
            needed.update(_listed(listing))
        except FileNotFoundError as error:
            raise ValueError(str(listing)) from error
    return needed


def _listed(listing: Path) -> set[str]:
    try:
        return set(json.loads(listing.read_text()))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(str(listing)) from error
