"""What a report says besides the rows: what was run, on what, with what, and how long it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.measures.figures import Figure, Value
from tasks.reporting.timings import Timings


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """One dense model, as resolved."""

    name: str
    """As the rows name it."""
    source: str
    """Where the weights come from: hub, folder, GGUF file or package, in words."""
    revision: str | None = None
    """Resolved commit or package version; None where the source has none."""
    digest: str
    """SHA-256 of the weights."""
    parameters: int
    """Weights of the dense model, tied ones once."""


@dataclass(frozen=True, kw_only=True)
class CalibrationFacts:
    """The text that methods looked at."""

    description: str
    """The corpus in words."""
    digest: str
    """SHA-256 of its text."""
    windows: int
    """How many windows (``samples``)."""
    window_tokens: int
    """Tokens of a window."""
    sampling: str
    """contiguous, random, spread or coreset; several of them with `` | `` between."""
    seed: int
    """Is added to a cell's own where windows are random or a coreset."""


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """The text that methods learned from."""

    description: str
    """The corpus in words."""
    digest: str
    """SHA-256 of its text."""
    windows: int
    """How many windows it gave."""
    window_tokens: int
    """Tokens of a window."""
    skipped_tokens: int
    """Tokens of its start that were left to calibration."""


@dataclass(frozen=True, kw_only=True)
class ReportContext:
    """Everything in ``report.md`` that is not in the rows."""

    name: str
    """The sweep's name."""
    models: Sequence[ModelFacts]
    """The dense models, in the sweep's order."""
    dtype: str
    """As resolved, such as bfloat16."""
    calibration: CalibrationFacts | None = None
    """None when no method of the sweep calibrates."""
    training: TrainingFacts | None = None
    """None when no method of the sweep learns."""
    measured: Mapping[str, str]
    """What was measured → with what, as each measure describes itself."""
    notes: Sequence[str] = ()
    """What a reader of the figures must know, one sentence each."""
    across: Sequence[tuple[Figure, Value]] = ()
    """Figures of several cells together."""
    environment: Mapping[str, str]
    """What computed the rows' steps, by name: code, Python and library versions, processor."""
    skipped: Sequence[tuple[str, str, str, str]] = ()
    """(model, method, target, reason) of each combination that a method cannot do."""
    timings: Timings | None = None
    """Where the time went; None when the report is written again without it."""
    checkpoints_kept: bool = True
    """Whether the pruned models were kept."""
    reproduce: str = "secateur run config.yaml"
    """The command that runs the sweep again, from the sweep's folder."""
