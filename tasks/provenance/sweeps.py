"""A cell or dense model of a sweep that has run, from its folder alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError
from tasks.provenance.inputs import (
    INPUTS_NAME,
    Inputs,
    OtherVersionError,
    read_inputs,
    read_places,
)
from tasks.provenance.references import Axes, Reference, choose
from tasks.provenance.result import Result, title_of
from tasks.reporting.rows import JSON_NAME, Row, read_results
from tasks.store.store import Store


def has_results(folder: Path) -> bool:
    """Whether a sweep wrote its results here."""
    return (folder / JSON_NAME).is_file()


def known_sweeps(home: Path) -> list[str]:
    """Names of the sweeps of a home that have results."""
    return sorted(path.parent.name for path in (home / "sweeps").glob(f"*/{JSON_NAME}"))


def read_cell(reference: Reference, folder: Path) -> Result:
    """The result that a reference means.

    Args:
        folder: the sweep's, with its results.

    Raises:
        ConfigurationError: it has no such cell, or one without a figure.
    """
    try:
        rows = [row for row in read_results(folder) if row.get("fingerprint")]
    except OSError as error:
        raise ConfigurationError(
            reference.field, reference.text, f"{folder / JSON_NAME} cannot be read: {error}"
        ) from error
    row = rows[choose(reference, [_axes(row) for row in rows], f"the sweep {folder.name}")]
    if row["status"] != "completed":
        reason = f"this cell {row['status']}, so there is no figure to compare: {row['error']}"
        raise ConfigurationError(reference.field, reference.text, reason)
    model, method, target = (str(row[name]) for name in ("model", "method", "target"))
    inputs = _inputs(reference, folder, row)
    store = Store(folder.parent.parent)  # of the home whose sweeps/ the folder is in
    places = read_places(folder, str(row["fingerprint"]))
    return Result(
        reference=reference.text,
        title=title_of(model, method, target, row["seed"], str(row.get("selection") or "")),
        origin=str(folder),
        metrics=_metrics(row),
        inputs=inputs,
        seeds={
            str(other["seed"]): _metrics(other)
            for other in rows
            if other.get("seed") is not None
            and other["status"] == "completed"
            and replace(_axes(other), seed=None) == replace(_axes(row), seed=None)
        },
        artifacts={role: store.path(place) for role, place in places.items()},
    )


def _axes(row: Row) -> Axes:
    seed = None if row.get("seed") is None else str(row["seed"])
    selection = str(row.get("selection") or "") or None
    return Axes(str(row["method"]), str(row["target"]) or None, seed, str(row["model"]), selection)


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in row.items()
        if name != "seed" and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _inputs(reference: Reference, folder: Path, row: Row) -> Inputs:
    name = folder.name
    try:
        return read_inputs(folder, str(row["fingerprint"]))
    except OtherVersionError as error:
        said = f"was written by another version; run the sweep {name} again"
        hint, cause = "", error
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = "does not say what this result was made from"
        hint, cause = f"It is written again by: secateur report {name}", error
    allowed = f"{folder / INPUTS_NAME} {said}"
    raise ConfigurationError(reference.field, reference.text, allowed, hint) from cause
