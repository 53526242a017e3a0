"""Results as tables in Markdown, for the report."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.measures.figures import Figure
from tasks.reporting.rows import Row, is_completed
from tasks.reporting.tables.table import LEARNED, Table, tables
from tasks.reporting.text import escape_markdown, markdown_table
from tasks.reporting.views import several_seeds

_ABREAST = 8
"""Columns of one table; further ones stand in another below it."""
_LEARNED = (
    "Methods with an entry under *learned from* trained on so many tokens (repetitions counted) of "
    "the training text: *weights*, the whole model was retrained; *mask*, only which heads and "
    "channels stay. The others change weights once, from calibration alone."
)
_EXACT = "Exact figures: [results.csv](results.csv), [results.json](results.json)."


def results_markdown(rows: Sequence[Row], figures: Sequence[Figure]) -> list[str]:
    """Headings, tables and notes of the completed rows, in the given order."""
    completed = [row for row in rows if is_completed(row)]
    if not completed:
        return ["No cell completed."]
    first, *groups = tables(completed, figures, errors=True)
    mean = ", by the mean over the seeds" if several_seeds(rows) else ""
    bold = f"In bold: the best of each target{mean}. " if any(c.bold for c in first.columns) else ""
    parts = [*_drawn(first), f"{bold}{_EXACT}"]
    for table in groups:
        parts += [f"### {escape_markdown(table.title).capitalize()}", *_drawn(table)]
        if any(column.heading == LEARNED for column in table.columns):
            parts.append(_LEARNED)
    return parts


def _drawn(table: Table) -> list[str]:
    names = table.names
    texts = sum(column.heading in ("model", "method", "target") for column in names)
    parts = []
    for at in range(0, max(len(table.columns), 1), _ABREAST):
        columns = [*names, *table.columns[at : at + _ABREAST]]
        header = [escape_markdown(c.heading) + (f" ({c.unit})" if c.unit else "") for c in columns]
        lines = [
            [_cell(column.cells[place], bold=place in column.bold) for column in columns]
            for place in range(len(table.rows))
        ]
        parts.append(markdown_table(header, lines, text_columns=texts))
    return parts


def _cell(text: str, *, bold: bool) -> str:
    escaped = escape_markdown(text)
    return f"**{escaped}**" if bold and escaped else escaped
