"""Results in the terminal. Names are never cut; columns that do not fit go to a further table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from tasks.measures.figures import Figure
from tasks.reporting.rows import Row, is_completed, is_dense
from tasks.reporting.tables.table import Column, Table, tables
from tasks.reporting.text import one_line
from tasks.reporting.views import cell_label

_GAP = 2


def results_table(rows: Sequence[Row], figures: Sequence[Figure], width: int = 100) -> Group:
    """One line a row, in the given order; failed rows in red; see :func:`errors_text`.

    Args:
        width: of the terminal.
    """
    # Details are for the report; whoever waits at a terminal wants what the cells are worth.
    told = [f for f in figures if f.headline or f.role != "detail"]
    first, *others = tables(rows, told)
    shown = [first, *_joined(others, width)]
    return Group(*(_drawn(part) for table in shown for part in _parts(table, width)))


def _joined(found: Sequence[Table], width: int) -> Iterator[Table]:
    """Groups side by side where they fit: fewer, wider tables are read more easily."""
    open_table: Table | None = None
    for table in found:
        if open_table and len(open_table.rows) == len(table.rows):
            both = [*open_table.columns, *table.columns]
            if _width([*table.names, *both]) <= width:
                open_table = Table("", table.rows, table.names, both)
                continue
        if open_table:
            yield open_table
        open_table = table
    if open_table:
        yield open_table


def _parts(table: Table, width: int) -> Iterator[Table]:
    """The table, cut into as many as the width demands, each with the names of the rows."""
    taken: list[Column] = []
    for column in table.columns:
        if taken and _width([*table.names, *taken, column]) > width:
            yield Table(table.title, table.rows, table.names, taken)
            taken = []
        taken = [*taken, column]
    yield Table(table.title, table.rows, table.names, taken)


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width + _GAP for column in columns)


def _drawn(table: Table) -> RichTable:
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    columns = [*table.names, *table.columns]
    for column in columns:
        heading = "\n".join(
            [*column.heading.split(), *([f"({column.unit})"] if column.unit else [])]
        )
        drawn.add_column(
            Text(heading),
            justify="left" if column.left else "right",
            no_wrap=True,
            min_width=column.width if column.name else None,
            vertical="bottom",
        )
    for place, row in enumerate(table.rows):
        after = table.rows[place + 1] if place + 1 < len(table.rows) else row
        cells = (
            Text(column.cells[place], style="bold" if place in column.bold else "")
            for column in columns
        )
        ends = after.get("model") != row.get("model")
        drawn.add_row(*cells, style=_style(row), end_section=ends)
    return drawn


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
    return "cyan" if is_dense(row) else "" if is_completed(row) else "dim"
