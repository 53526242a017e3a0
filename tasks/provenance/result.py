"""One result to compare: a figure, where it stands, and what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tasks.provenance.inputs import DENSE, Inputs
from tasks.reporting.text import short_name


@dataclass(frozen=True, kw_only=True)
class Result:
    """A row of results, wherever it was found.

    Attributes:
        reference: as the user wrote it.
        title: method, target, model and seed in a line.
        origin: where it was found.
        metrics: every figure by its column's name.
        inputs: name → value, as :mod:`tasks.provenance.inputs` names them.
        artifacts: role of a measurement → its folder, which may be gone; empty where none is known.
        seeds: seed → figures of the cells that differ from this one in the seed alone, its own too.
        reported: whether a paper reports it, so that inputs are those of the preset.
    """

    reference: str
    title: str
    origin: str
    metrics: Mapping[str, float]
    inputs: Inputs
    artifacts: Mapping[str, Path] = field(default_factory=dict)
    seeds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    reported: bool = False


def title_of(model: str, method: str, target: str, seed: object, selection: str = "") -> str:
    """How a row is called in a line."""
    if method == DENSE:
        return f"{DENSE} {short_name(model)}"
    chosen = f", {selection} windows" if selection else ""
    seeded = "" if seed in (None, "") else f", seed {seed}"
    return f"{method} {target} of {short_name(model)}{chosen}{seeded}"
