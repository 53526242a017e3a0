"""Small things about files that several writers need."""

from __future__ import annotations

from pathlib import Path


def share(*paths: Path) -> None:
    """Give files the permissions that a new file gets.

    safetensors creates files for their owner alone; a store that machines share needs what the
    umask allows.
    """
    for path in paths:
        probe = path.with_name(f".{path.name}.mode")
        probe.touch()
        try:
            path.chmod(probe.stat().st_mode & 0o777)
        finally:
            probe.unlink()
