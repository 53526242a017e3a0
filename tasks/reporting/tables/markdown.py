"""A table in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.reporting.tables.table import Table
from tasks.reporting.text import escape_markdown, with_unit


def table_markdown(table: Table) -> str:
    """The table with the best of each target in bold, and its note; without its title."""
    header = [escape_markdown(with_unit(c.heading, c.unit)) for c in table.columns]
    columns = [
        [
            f"**{text}**" if place in column.best else text
            for place, text in enumerate(map(escape_markdown, column.cells))
        ]
        for column in table.columns
    ]
    names = sum(column.is_name and column.heading != "seed" for column in table.columns)
    body = pipe_table(header, list(zip(*columns, strict=True)), text_columns=names)
    return f"{body}\n\n{table.note}" if table.note else body


def pipe_table(header: Sequence[str], lines: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Cells that are Markdown already; the first ``text_columns`` align left, others right."""
    rule = ["---" if place < text_columns else "---:" for place in range(len(header))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))
