"""A cell or dense model of a sweep that has run, from its folder and its home's manifests."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError
from tasks.provenance.manifests import EVALUATION, Inputs, derived, figure_of
from tasks.provenance.recorded import INPUTS_NAME
from tasks.provenance.references import Axes, Reference, choose
from tasks.provenance.result import PERPLEXITY, Result, title_of
from tasks.reporting.rows import JSON_NAME, Row, read_results


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
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            reference.field, reference.text, f"{folder / JSON_NAME} cannot be read: {error}"
        ) from error
    row = rows[choose(reference, [_axes(row) for row in rows], f"the sweep {folder.name}")]
    if row["status"] != "completed":
        reason = f"this cell {row['status']}, so there is no figure to compare: {row['error']}"
        raise ConfigurationError(reference.field, reference.text, reason)
    model, method, target = (str(row[name]) for name in ("model", "method", "target"))
    return Result(
        reference=reference.text,
        title=title_of(model, method, target, row["seed"]),
        origin=str(folder),
        metrics=_metrics(row),
        inputs=_inputs(reference, folder, row),
    )


def _axes(row: Row) -> Axes:
    seed = None if row.get("seed") is None else str(row["seed"])
    return Axes(str(row["method"]), str(row["target"]) or None, seed, str(row["model"]))


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in row.items()
        if name != "seed" and isinstance(value, int | float) and not isinstance(value, bool)
    }


def _inputs(reference: Reference, folder: Path, row: Row) -> Inputs:
    """What was written with the results; where the artifacts are there, what they say now."""
    try:
        entries = json.loads((folder / INPUTS_NAME).read_text(encoding="utf-8"))["rows"]
        entry = entries[str(row["fingerprint"])]
        inputs, steps = dict(entry["inputs"]), dict(entry["steps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            reference.field,
            reference.text,
            f"{folder / INPUTS_NAME} does not say what this result was made from",
            f"It is written again by: secateur report {folder.name}",
        ) from error
    root = folder.parent.parent
    if _still_behind(root, steps, row):
        inputs |= derived(root, steps)
    return inputs


def _still_behind(root: Path, steps: Mapping[str, str], row: Row) -> bool:
    """Whether the home's artifacts gave these figures, and were not computed anew since."""
    for role, place in steps.items():
        name = role.removeprefix(EVALUATION)
        figure = figure_of(root, place) if role.startswith(EVALUATION) else None
        recorded = row.get(f"{PERPLEXITY}{name}")
        if figure is None or not isinstance(recorded, int | float):
            continue
        if figure != recorded and not (math.isnan(figure) and math.isnan(recorded)):
            return False
    return True
