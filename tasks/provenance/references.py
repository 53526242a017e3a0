"""What ``secateur diff`` takes: a cell of a sweep, an MLflow run, or a figure of a paper.

    quickstart:wanda@0.2                    a cell of a sweep in this home
    quickstart:dense                        a dense model of it
    wide:wanda@0.5#1,model=gpt2             one seed, one model, where there are several
    wide:wanda@0.5,selection=coreset        one way to choose windows, before the model
    /mnt/b/outputs/sweeps/wide:wanda@0.5    a cell of a sweep's folder, copied from another machine
    0123456789abcdef0123456789abcdef        a cell's run in MLflow
    reported:paper-ast:ast@2:4,model=gpt2   what the paper behind a preset reports

Target, seed and model may be left out where only one cell is meant. A sweep that this home does not
have is looked for among the presets that report figures, so ``reported:`` is needed only where the
preset was also run here. A path is what holds a ``/``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ConfigurationError
from tasks.reporting.text import short_names

RUN_ID = re.compile(r"[0-9a-f]{32}")
REPORTED = "reported:"
FORM = "write SWEEP:METHOD@TARGET[#SEED][,model=MODEL], SWEEP:dense, or an MLflow run id"
_CELL = re.compile(
    r"(?P<method>[A-Za-z][\w-]*)(@(?P<target>\d+:\d+|[0-9.]+))?(#(?P<seed>\d+))?"
    r"(,selection=(?P<selection>[a-z]+))?(,model=(?P<model>.+))?"
)
_MOST = 12
"""How many cells a message lists."""


@dataclass(frozen=True)
class Axes:
    """What tells rows of one sweep apart; None where it was left out."""

    method: str
    target: str | None
    seed: str | None
    model: str | None
    selection: str | None = None


@dataclass(frozen=True)
class Reference:
    """A reference, parsed.

    Attributes:
        text: as it came.
        field: A or B, for messages.
        run: the MLflow run's id; empty for all others.
        sweep: name or folder; empty for runs.
        axes: None for a run, or where only the sweep was named.
        reported: whether a paper's figure is meant, whatever this home has.
    """

    text: str
    field: str
    run: str = ""
    sweep: str = ""
    axes: Axes | None = None
    reported: bool = False

    @property
    def folder(self) -> Path | None:
        """The sweep's folder where it was named as a path."""
        return Path(self.sweep).expanduser() if "/" in self.sweep else None


def parse(text: str, field: str) -> Reference:
    """Read a reference.

    Args:
        field: A or B, for messages.

    Raises:
        ConfigurationError: when it has none of the forms.
    """
    if RUN_ID.fullmatch(text):
        return Reference(text, field, run=text)
    reported = text.startswith(REPORTED)
    body = text.removeprefix(REPORTED)
    # A path may hold colons; what follows its last slash is SWEEP:CELL. A model may hold slashes.
    head, separator, model = body.partition(",model=")
    start = head.rfind("/") + 1
    sweep, _, cell = head[start:].partition(":")
    if not sweep:
        raise ConfigurationError(field, text, FORM)
    place = head[:start] + sweep
    if not cell:
        return Reference(text, field, sweep=place, reported=reported)
    found = _CELL.fullmatch(cell + separator + model)
    if found is None:
        raise ConfigurationError(field, text, FORM)
    axes = Axes(**found.groupdict())
    return Reference(text, field, sweep=place, axes=axes, reported=reported)


def choose(reference: Reference, rows: Sequence[Axes], where: str) -> int:
    """The place of the one row that a reference means.

    Args:
        rows: the axes of all that can be compared.
        where: how the message calls what holds them.

    Raises:
        ConfigurationError: when none or several fit; it lists what there is.
    """
    fitting = [place for place, row in enumerate(rows) if _fits(reference.axes, row)]
    if len(fitting) == 1:
        return fitting[0]
    shown = [rows[place] for place in fitting] or list(rows)
    names = _notations(reference, rows, shown)
    listed = ", ".join(names[:_MOST]) + (f" and {len(names) - _MOST} more" if names[_MOST:] else "")
    what = f"{where} has {len(fitting)} that fit" if fitting else f"{where} has no such result"
    raise ConfigurationError(
        reference.field, reference.text, what, f"{'Name one' if fitting else 'It has'}: {listed}"
    )


def _fits(wanted: Axes | None, row: Axes) -> bool:
    if wanted is None:
        return True
    return (
        wanted.method == row.method
        and _same_target(wanted.target, row.target)
        and wanted.seed in (None, row.seed)
        and wanted.selection in (None, row.selection)
        and (wanted.model is None or same_model(wanted.model, row.model or ""))
    )


def same_model(wanted: str, given: str) -> bool:
    """Whether the name is the model's, or the end of its path."""
    end = wanted.removeprefix("./").rstrip("/")
    return wanted == given or f"/{given.rstrip('/')}".endswith(f"/{end}")


def _same_target(wanted: str | None, given: str | None) -> bool:
    if wanted is None or wanted == given:
        return True
    try:
        return float(wanted) == float(given or "")
    except ValueError:
        return False


def _notations(reference: Reference, rows: Sequence[Axes], shown: Sequence[Axes]) -> list[str]:
    """How to write each of ``shown``, as short as the sweep allows."""
    prefix = (REPORTED if reference.reported else "") + reference.sweep
    seeds = len({row.seed for row in rows if row.seed is not None}) > 1
    names = short_names(row.model or "" for row in rows)
    return [
        f"{prefix}:{row.method}"
        + (f"@{row.target}" if row.target else "")
        + (f"#{row.seed}" if seeds and row.seed is not None else "")
        + (f",selection={row.selection}" if row.selection else "")
        + (f",model={names[row.model or '']}" if len(names) > 1 else "")
        for row in shown
    ]
