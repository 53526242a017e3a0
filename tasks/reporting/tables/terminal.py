"""Tables in a terminal: as many as its width needs, names whole.

Cells never mark up an error's own brackets; rich draws the lines in ASCII where the output cannot
take more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from tasks.measures.figures import PRUNING, Figure
from tasks.reporting.rows import Row
from tasks.reporting.tables.table import DEPARTS, RESULTS, Column, Table, results_tables
from tasks.reporting.text import one_line, short_names
from tasks.reporting.views import cell_label, departure, models, of_model, several_seeds

_GAP = 2
"""Spaces between columns."""
_BEST = "*"
_FURTHER = "Further figures"
_STYLES = {"failed": "red", "dense": "bold", "completed": ""}


def results_table(rows: Sequence[Row], figures: Sequence[Figure], width: int = 100) -> Group:
    """One line a row in each table, in the given order; failed rows in red, the best starred.

    First the headline figures, then what pruning took, then further figures but details, which
    the report has. Several models have tables of their own: a model's name stands above them,
    where it is never cut.

    Args:
        width: of the terminal. Details make way where a table does not fit, and what still does
            not goes on in a further one.
    """
    several = len(models(rows)) > 1
    names = short_names(models(rows))
    further = [f for f in figures if f.role != "detail" and not f.headline and f not in PRUNING]
    chosen = [figure for figure in figures if figure.headline or figure in PRUNING]
    chosen += [replace(figure, group=_FURTHER) for figure in further]
    found = [
        (names[model] if several else "", table)
        for model in models(rows) or [""]
        for table in results_tables(of_model(rows, model), chosen)
    ]
    titles = dict.fromkeys(table.title for _, table in found)
    shown: list[RenderableType] = []
    for model, table in ((m, t) for title in titles for m, t in found if t.title == title):
        title = ": ".join(filter(None, [model, table.title if table.title != RESULTS else ""]))
        shown += [Text(title, style="bold")] if title else []
        shown += [terminal_table(part) for part in _parts(table, width)]
    starred = any(column.best for _, table in found for column in table.columns)
    by = ", by the mean of its seeds" if several_seeds(rows) else ""
    note = [f"{_BEST} the best of its target{by}"] if starred else []
    if any(map(departure, rows)):
        note.append(f"{DEPARTS} departs from its paper; the report says how")
    return Group(*shown, *(Text(line, style="dim") for line in note))


def _parts(table: Table, width: int) -> Iterator[Table]:
    """The table, or several with the columns that name a row and as many others as fit."""

    def fits(columns: Sequence[Column]) -> bool:
        return sum(_width(column) + _GAP for column in (*table.names, *columns)) <= width

    columns = [column for column in table.columns if not column.is_name]
    while not fits(columns) and any(column.is_detail for column in columns):
        last = max(place for place, column in enumerate(columns) if column.is_detail)
        del columns[last]
    taken: list[Column] = []
    for column in columns:
        if taken and not fits([*taken, column]):
            yield replace(table, columns=[*table.names, *taken])
            taken = []
        taken.append(column)
    yield replace(table, columns=[*table.names, *taken])


def terminal_table(table: Table) -> RichTable:
    """One table as rich draws it; a line of kind ``total`` is set apart, in bold."""
    drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in table.columns:
        drawn.add_column(
            Text("\n".join(_heading(column))),
            justify="left" if column.is_name and column.heading != "seed" else "right",
            no_wrap=True,
            overflow="ellipsis",
        )
    for place, kind in enumerate(table.kinds):
        cells = (
            Text(text, style="bold green" if place in column.best else "")
            for column in table.columns
            for text in [_cells(column)[place]]
        )
        if kind == "total":
            drawn.add_section()
        drawn.add_row(*cells, style=_STYLES.get(kind, "bold" if kind == "total" else "dim"))
    return drawn


def _heading(column: Column) -> list[str]:
    """A word a line, so that a column is no wider than its cells need; the unit below."""
    words = [word.replace("\u00a0", " ") for word in column.heading.replace("×", "x").split(" ")]
    return [*words, *([column.unit] if column.unit else [])]


def _cells(column: Column) -> list[str]:
    """Without what an ASCII terminal cannot show; the best with a star, beyond the digits."""
    cells = [text.replace("±", "+-") for text in column.cells]
    if not column.best:
        return cells
    return [text + (_BEST if place in column.best else " ") for place, text in enumerate(cells)]


def _width(column: Column) -> int:
    return max(map(len, [*_heading(column), *_cells(column)]), default=0)


def errors_text(rows: Sequence[Row], width: int = 100) -> Text | None:
    """A line or two for each failed row; None where none failed."""
    lines = [
        one_line(f"{cell_label(row)}: {row.get('error') or 'no message'}", 2 * width)
        for row in rows
        if row.get("status") == "failed"
    ]
    return Text("\n".join(lines), style="red", overflow="ellipsis") if lines else None
