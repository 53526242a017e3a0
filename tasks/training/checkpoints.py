"""Checkpoints of a training run: what a killed run goes on from.

Each is a folder ``step-<number>`` with the tensors in safetensors and the facts in JSON, which also
hold the tensors' size and checksum. It is written under a temporary name and renamed, and the one
before it stays until the next, so that a damaged one costs a few steps and not the run.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
import zlib
from pathlib import Path
from typing import Any

from tasks.pruning.core.retraining import Snapshot

_TENSORS = "state.safetensors"
_FACTS = "facts.json"
_KEPT = 2
_SHARE = 50
"""Writing takes at most about one part in so many of the time."""

_log = logging.getLogger(__name__)


class DamagedCheckpointError(ValueError):
    """A checkpoint that is not as it was written, with the reason."""


class Checkpoints:
    """The checkpoints of one run, in a folder of their own.

    Args:
        seconds: of work between two of them, at least; 0: one after every step.
    """

    def __init__(self, folder: Path, seconds: float = 60.0) -> None:
        self._folder = folder
        self._seconds = seconds
        self._last = time.monotonic()
        self._cost = 0.0

    def due(self) -> bool:
        """Whether so much was done since the last one that it would be a pity to lose it."""
        between = max(self._seconds, _SHARE * self._cost) if self._seconds else 0.0
        return time.monotonic() - self._last >= between

    def write(self, step: int, snapshot: Snapshot) -> None:
        """Write one, and remove all but the newest two."""
        from safetensors.torch import save_file

        begun = time.monotonic()
        self._folder.mkdir(parents=True, exist_ok=True)
        for left_behind in self._folder.glob("writing-*"):
            shutil.rmtree(left_behind)
        temporary = self._folder / f"writing-{step}"
        temporary.mkdir()
        tensors = {name: tensor.cpu().contiguous() for name, tensor in snapshot.tensors.items()}
        save_file(tensors, temporary / _TENSORS)
        facts = {
            "bytes": (temporary / _TENSORS).stat().st_size,
            "crc32": _checksum(temporary / _TENSORS),
            "facts": dict(snapshot.facts),
        }
        text = json.dumps(facts, allow_nan=False)
        (temporary / _FACTS).write_text(text, encoding="utf-8")
        final = self._folder / f"step-{step:09d}"
        if final.exists():  # a damaged one that latest() passed over
            shutil.rmtree(final)
        temporary.rename(final)
        for old in self._all()[_KEPT:]:
            shutil.rmtree(old)
        self._last = time.monotonic()
        self._cost = self._last - begun

    def latest(self) -> Snapshot | None:
        """The newest one that is intact; each that is not is told about and passed over."""
        for folder in self._all():
            try:
                return _read(folder)
            except DamagedCheckpointError as error:
                _log.warning("checkpoint %s is passed over: %s", folder.name, error)
        return None

    def _all(self) -> list[Path]:
        """Newest first."""
        return sorted(self._folder.glob("step-*"), reverse=True)


def _checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            value = zlib.crc32(part, value)
    return value


def _read(folder: Path) -> Snapshot:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / _TENSORS
    try:
        written: dict[str, Any] = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        size = path.stat().st_size
        if size != written["bytes"]:
            raise DamagedCheckpointError(f"{size} bytes, and {written['bytes']} were written")
        if _checksum(path) != written["crc32"]:
            raise DamagedCheckpointError("its checksum is another")
        return Snapshot(load_file(path), written["facts"])
    except (OSError, KeyError, TypeError, json.JSONDecodeError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{type(error).__name__}: {error}") from error
