"""What each rank leaves in the scratch folder: its log, its report, and its error if it failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def log_of(scratch: Path, rank: int) -> Path:
    """What a worker writes to its standard output and error."""
    return scratch / f"rank-{rank}.log"


def error_of(scratch: Path, rank: int) -> Path:
    """A worker's traceback, once it failed."""
    return scratch / f"rank-{rank}.error"


def report_of(scratch: Path, rank: int) -> Path:
    """What a worker has to say for itself, as JSON."""
    return scratch / f"rank-{rank}.json"


def read_reports(scratch: Path, processes: int) -> list[dict[str, Any]]:
    """The report of every rank of a run that succeeded."""
    return [
        json.loads(report_of(scratch, rank).read_text(encoding="utf-8"))
        for rank in range(processes)
    ]
