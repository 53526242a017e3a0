"""Names of runs, params and metrics as MLflow takes them, and what tells rows apart."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.reporting.text import short_names
from tasks.reporting.views import series
from tasks.tracking.records import AXES


def title_of(row: Mapping[str, Any], models: Sequence[str] = ()) -> str:
    """A row's name among those of its sweep.

    Args:
        models: of the sweep; the row's is told from them.
    """
    name = str(row["model"])
    model = short_names([*models, name])[name]
    if row["method"] == "dense":
        return f"dense · {model}"
    return f"{series(row)} {row['target']} · {model} · seed {row['seed']}"


def row_identity(row: Mapping[str, Any]) -> str:
    """A row's place in its sweep: it stays when the fingerprint comes later or changes."""
    places = [axis for axis in AXES[:-1] if axis != "selection" or row.get(axis)]
    return digest(*("" if row.get(axis) is None else str(row[axis]) for axis in places))


def row_cell(row: Mapping[str, Any]) -> str:
    """The row's fingerprint; one that failed before it had any goes by its place."""
    return str(row.get("fingerprint") or row_identity(row))


def digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def clean_name(text: str) -> str:
    """``text`` as MLflow takes it for a metric, param or tag: also a relative path without dots."""
    parts = re.sub(r"[^\w\-. /]", "_", text).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))[:250].rstrip("/") or "_"


def cut(text: str, limit: int = 5000) -> str:
    """``text``, or its beginning and a word on how long it was; MLflow takes 6000 of a param."""
    return text if len(text) <= limit else f"{text[:limit]} … (cut, {len(text)} characters)"
