"""The terminal's columns of agreement, zero-shot tasks, speed and size; each where measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tasks.reporting.measures import (
    AGREEMENT,
    DECODE,
    KL,
    ON_DISK,
    PREFILL,
    RECONSTRUCTION,
    SPEED_MEMORY,
    ZERO_SHOT_MEAN,
    corpora_of,
    measured,
    speedup,
)
from tasks.reporting.rows import Row
from tasks.reporting.text import (
    format_bytes,
    format_figure,
    format_percent,
    format_ratio,
    one_line,
)
from tasks.reporting.views import figure

NAME_WIDTH = 16
"""Where a model's name wraps."""
_LAYERS, _PREFILL, _DECODE = "layer\nerror", "prefill\ntok/s", "decode\ntok/s"
_SIZES = ("memory", "on disk")
LEAST_NEEDED = (*reversed(_SIZES), _PREFILL, _LAYERS, _DECODE)
"""Headers of the columns that make way where a second table does not fit, the first one first."""


@dataclass(frozen=True)
class Column:
    """One column of the terminal's table."""

    header: str
    cells: list[str]
    left: bool = False

    @property
    def width(self) -> int:
        lines = [*self.header.split("\n"), *self.cells]
        return min(max(map(len, lines)), NAME_WIDTH)


def measure_columns(rows: Sequence[Row]) -> list[Column]:
    """What was measured beside perplexity, in the order of the report's tables."""
    found: list[Column] = []
    for word, prefix, shown in (("KL", KL, format_figure), ("top-1 %", AGREEMENT, format_percent)):
        names = corpora_of(rows, prefix)
        for name in names:
            header = f"{word}\n{one_line(name, 12)}" if len(names) > 1 else word
            found.append(_column(rows, header, prefix + name, shown))
    for header, column, shown in (
        (_LAYERS, RECONSTRUCTION, format_figure),
        ("0-shot\n%", ZERO_SHOT_MEAN, format_percent),
        (_PREFILL, PREFILL, format_figure),
        (_DECODE, DECODE, format_figure),
    ):
        if measured(rows, column):
            found.append(_column(rows, header, column, shown))
    if measured(rows, DECODE):
        ratios = [format_ratio(speedup(row, rows, DECODE)) for row in rows]
        found.append(Column("decode\nx dense", [f"{ratio}x" if ratio else "" for ratio in ratios]))
    for header, column in zip(_SIZES, (SPEED_MEMORY, ON_DISK), strict=True):
        if measured(rows, column):
            found.append(_column(rows, header, column, format_bytes))
    return found


def _column(rows: Sequence[Row], header: str, column: str, shown: Callable[[float], str]) -> Column:
    values = (figure(row, column) for row in rows)
    return Column(header, ["" if value is None else shown(value) for value in values])
