"""Results in the terminal and as a Prefect table.

The table is plain ASCII within its cells and never marks up an error's own brackets; rich draws
its lines in ASCII too where the output cannot take more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tasks.reporting.console_measures import LEAST_NEEDED, NAME_WIDTH, Column, measure_columns
from tasks.reporting.measures import (
    AGREEMENT,
    DECODE,
    KL,
    ON_DISK,
    PREFILL,
    RECONSTRUCTION,
    ZERO_SHOT_MEAN,
    corpora_of,
    measured,
)
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
_ARTIFACT_MEASURES = (ZERO_SHOT_MEAN, RECONSTRUCTION, PREFILL, DECODE, ON_DISK)


def results_table(rows: Sequence[Row], width: int = 100) -> Table | Group:
    """One line a row, in the given order; failed rows in red; see :func:`errors_text`.

    Agreement, zero-shot and speed stand in the same table where it fits, else in one of their own
    below it, without what the report alone can show.

    Args:
        width: of the terminal; the ratios to dense make way where the table does not fit.
    """
    names = _name_columns(rows)
    further = measure_columns(rows)
    for ratios in (True, False):
        columns = [*names, *_columns(rows, ratios=ratios)]
        if further and _fits([*columns, *further], width):
            return _table(rows, [*columns, *further])
        if _fits(columns, width):
            break
    if not further:
        return _table(rows, columns)
    return Group(_table(rows, columns), *(_table(rows, t) for t in _split(names, further, width)))


def _fits(columns: Sequence[Column], width: int) -> bool:
    return sum(column.width + 2 for column in columns) <= width


def _split(
    names: Sequence[Column], further: Sequence[Column], width: int
) -> Iterator[list[Column]]:
    """One table with the columns that name a row, less what makes way; more only where it must."""
    for header in LEAST_NEEDED:
        if not _fits([*names, *further], width):
            further = [column for column in further if column.header != header]
    taken = list(names)
    for column in further:
        if len(taken) > len(names) and not _fits([*taken, column], width):
            yield taken
            taken = list(names)
        taken.append(column)
    yield taken


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
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
            max_width=NAME_WIDTH if name else None,
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
        for prefix in (KL, AGREEMENT):
            line |= {prefix + name: row.get(prefix + name) for name in corpora_of(rows, prefix)}
        line |= {name: row.get(name) for name in _ARTIFACT_MEASURES if measured(rows, name)}
        line["learned"] = learning(row) or None
        for key in ("sparsity", "prune_seconds", "calibration_seconds", "evaluate_seconds"):
            line[key] = row.get(key)
        line["error"] = None if row.get("error") is None else one_line(str(row["error"]), 200)
        lines.append({key: _plain(value) for key, value in line.items()})
    return lines


def _name_columns(rows: Sequence[Row]) -> list[Column]:
    found: list[Column] = []
    if len(models(rows)) > 1:
        found.append(Column("model", _first_of_each(rows), left=True))
    found.append(Column("method", [str(row.get("method")) for row in rows], left=True))
    found.append(Column("target", [target_text(row.get("target")) for row in rows]))
    if several_seeds(rows):
        seeds = (row.get("seed") for row in rows)
        found.append(Column("seed", ["" if seed is None else str(seed) for seed in seeds]))
    return found


def _columns(rows: Sequence[Row], *, ratios: bool) -> list[Column]:
    names = corpora(rows)
    found: list[Column] = []
    for name in names:
        header = f"perplexity\n{one_line(name, 12)}" if len(names) > 1 else "perplexity"
        found.append(Column(header, [_perplexity(row, name) for row in rows]))
        if ratios:
            told = (format_ratio(ratio_to_dense(row, rows, name)) for row in rows)
            found.append(Column("vs\ndense", [f"{ratio}x" if ratio else "" for ratio in told]))
    learned = [learning(row).replace(" tokens", "") for row in rows]
    if any(learned):
        found.append(Column("learned\n(tokens)", learned))
    zeros = (None if is_dense(row) else figure(row, "sparsity") for row in rows)
    found.append(Column("zeros\n%", [format_percent(value) for value in zeros]))
    seconds = [format_seconds(figure(row, "prune_seconds")) for row in rows]
    return [*found, Column("prune\ns", seconds)]


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
