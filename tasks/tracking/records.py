"""What the tracking server is told about a sweep, and the words that stand in its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

AXES = ("model", "method", "target", "selection", "seed", "status")
DURATIONS = ("calibration_seconds", "prune_seconds", "evaluate_seconds")
PARENT = "mlflow.parentRunId"
Points = Mapping[str, Sequence[tuple[int, float]]]
"""Metric name → (step, value)."""


@dataclass(frozen=True, kw_only=True)
class SweepIdentity:
    """What tells one sweep from another, and what describes it."""

    name: str
    """The run's name."""
    fingerprint: str
    """SHA-256 of what determines the sweep: the same sweep is the same run."""
    config_yaml: str
    """The sweep as resolved; logged as config.yaml."""
    axes: Mapping[str, str]
    """Models, methods, targets, seeds, dtype …, each as one text; logged as params."""


@dataclass(frozen=True, kw_only=True)
class InputRecord:
    """Something a row was computed from, shown by MLflow among the run's datasets."""

    name: str
    """Corpus or model."""
    digest: str
    """Its full digest; MLflow's own field holds the first 36 characters."""
    source: str
    """Where it came from, such as ``hub:Salesforce/wikitext``."""
    context: str
    """calibration, evaluation or model."""
