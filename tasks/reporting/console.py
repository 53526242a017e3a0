"""Results in the terminal and as a Prefect table.

The table is plain ASCII within its cells and never marks up an error's own brackets; rich draws
its lines in ASCII too where the output cannot take more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from tasks.reporting.ordering import target_text
from tasks.reporting.rows import PERPLEXITY, Row, Value, corpora, is_completed, is_dense
from tasks.reporting.text import (
    format_percent,
    format_perplexity,
    format_ratio,
    format_seconds,
    one_line,
)
from tasks.reporting.views import (
    cell_label,
    figure,
    learning,
    models,
    ratio_to_dense,
    several_seeds,
    short_name,
)

_ARTIFACT_DIGITS = 5
_NAME_WIDTH = 16
"""Where a model's name wraps."""


@dataclass(frozen=True)
class _Column:
    header: str
    cells: list[str]
    left: bool = False

    @property
    def width(self) -> int:
        lines = [*self.header.split("\n"), *self.cells]
        return min(max(map(len, lines)), _NAME_WIDTH)


def results_table(rows: Sequence[Row], width: int = 100) -> Table:
    """One line a row, in the given order; failed rows in red; see :func:`errors_text`.

    Args:
        width: of the terminal; the ratios to dense make way where the table does not fit.
    """
    columns = _columns(rows, ratios=True)
    if sum(column.width + 2 for column in columns) > width:
        columns = _columns(rows, ratios=False)
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in columns:
        name = column.header == "model"
        table.add_column(
            Text(column.header),
            justify="left" if column.left else "right",
            no_wrap=not name,
            overflow="fold" if name else "ellipsis",
            max_width=_NAME_WIDTH if name else None,
        )
    for place, row in enumerate(rows):
        ends = place + 1 < len(rows) and rows[place + 1].get("model") != row.get("model")
        cells = (Text(column.cells[place]) for column in columns)
        table.add_row(*cells, style=_style(row), end_section=ends)
    return table


def results_artifact(rows: Sequence[Row]) -> list[dict[str, Value]]:
    """The rows for a Prefect table artifact: fewer columns, floats rounded, inf and nan as text."""
    names = corpora(rows)
    lines: list[dict[str, Value]] = []
    for row in rows:
        line: dict[str, Value] = {
            key: row.get(key) for key in ("model", "method", "target", "seed", "status")
        }
        for name in names:
            line[PERPLEXITY + name] = row.get(PERPLEXITY + name)
            line[f"vs dense/{name}"] = ratio_to_dense(row, rows, name)
        line["learned"] = learning(row) or None
        for key in ("sparsity", "prune_seconds", "calibration_seconds", "evaluate_seconds"):
            line[key] = row.get(key)
        line["error"] = None if row.get("error") is None else one_line(str(row["error"]), 200)
        lines.append({key: _plain(value) for key, value in line.items()})
    return lines


def _columns(rows: Sequence[Row], *, ratios: bool) -> list[_Column]:
    names = corpora(rows)
    found: list[_Column] = []
    if len(models(rows)) > 1:
        found.append(_Column("model", _first_of_each(rows), left=True))
    found.append(_Column("method", [str(row.get("method")) for row in rows], left=True))
    found.append(_Column("target", [target_text(row.get("target")) for row in rows]))
    if several_seeds(rows):
        seeds = (row.get("seed") for row in rows)
        found.append(_Column("seed", ["" if seed is None else str(seed) for seed in seeds]))
    for name in names:
        header = f"perplexity\n{one_line(name, 12)}" if len(names) > 1 else "perplexity"
        found.append(_Column(header, [_perplexity(row, name) for row in rows]))
        if ratios:
            told = (format_ratio(ratio_to_dense(row, rows, name)) for row in rows)
            found.append(_Column("vs\ndense", [f"{ratio}x" if ratio else "" for ratio in told]))
    learned = [learning(row).replace(" tokens", "") for row in rows]
    if any(learned):
        found.append(_Column("learned\n(tokens)", learned))
    zeros = (None if is_dense(row) else figure(row, "sparsity") for row in rows)
    found.append(_Column("zeros\n%", [format_percent(value) for value in zeros]))
    seconds = [format_seconds(figure(row, "prune_seconds")) for row in rows]
    return [*found, _Column("prune\ns", seconds)]


def _first_of_each(rows: Sequence[Row]) -> list[str]:
    """Model names, each once: where its rows begin."""
    names = [str(row.get("model")) for row in rows]
    former = [None, *names]
    return [
        short_name(name) if name != before else ""
        for name, before in zip(names, former, strict=False)
    ]


def _perplexity(row: Row, corpus: str) -> str:
    if is_completed(row):
        return format_perplexity(figure(row, PERPLEXITY + corpus))
    return str(row.get("status") or "unknown")


def errors_text(rows: Sequence[Row], width: int = 100) -> Text | None:
    """A line or two for each failed row; None where none failed."""
    lines = [
        one_line(f"{cell_label(row)}: {row.get('error') or 'no message'}", 2 * width)
        for row in rows
        if row.get("status") == "failed"
    ]
    return Text("\n".join(lines), style="red", overflow="ellipsis") if lines else None


def _style(row: Row) -> str:
    if row.get("status") == "failed":
        return "red"
    return "bold" if is_dense(row) else "" if is_completed(row) else "dim"


def _plain(value: Value) -> Value:
    if isinstance(value, bool) or not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return float.__repr__(value)
    return float(f"{value:.{_ARTIFACT_DIGITS}g}")
