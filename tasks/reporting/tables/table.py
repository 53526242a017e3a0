"""A table of results: which columns there are and what stands in each, whoever shows it.

The first table holds the headline figures, each with its ratio to the dense model, and the share of
zeros; then one table for each group of figures that was measured, and what pruning cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tasks.measures.figures import Figure, present
from tasks.reporting.ordering import target_text
from tasks.reporting.rows import Row, is_completed, is_dense
from tasks.reporting.text import format_ratio, shown, unit
from tasks.reporting.views import (
    SPARSITY,
    best,
    learning,
    models,
    ratio_to_dense,
    several_seeds,
    short_name,
)

LEARNED = "learned from"
_PRUNING = "pruning"


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        unit: of its cells; empty where they bear theirs, or have none.
        bold: places of the rows that are best.
        name: whether it says which row it is.
    """

    heading: str
    cells: list[str]
    unit: str = ""
    bold: frozenset[int] = frozenset()
    left: bool = False
    name: bool = False

    @property
    def width(self) -> int:
        """Characters that it needs, its heading on as many lines as it has words."""
        words = (*self.heading.split(), *([f"({self.unit})"] if self.unit else []))
        return max(map(len, (*words, *self.cells)), default=0)


@dataclass(frozen=True)
class Table:
    """Columns below a title; ``rows`` are those that its cells belong to."""

    title: str
    rows: list[Row]
    names: list[Column]
    columns: list[Column] = field(default_factory=list)


def tables(rows: Sequence[Row], figures: Sequence[Figure], *, errors: bool = False) -> list[Table]:
    """All tables of the rows, the one with the headline figures first.

    Args:
        errors: show standard errors beside figures that have one.
    """
    rows = list(rows)
    there = present(figures, rows)
    headline = [figure for figure in there if figure.headline]
    first = [column for figure in headline for column in _with_ratio(rows, figure, errors)]
    zeros = _column(rows, SPARSITY, lambda row: "" if is_dense(row) else shown(SPARSITY, row))
    found = [Table("results", rows, _names(rows), [*first, zeros])]
    groups: dict[str, list[Column]] = {}
    for figure in there:
        if figure not in headline and figure.column not in (SPARSITY.column, "training_tokens"):
            columns = list(_with_ratio(rows, figure, errors))
            groups.setdefault(figure.group, []).extend(columns)
    if any(learned := [learning(row) for row in rows]):
        groups.setdefault(_PRUNING, []).insert(0, Column(LEARNED, learned, left=True))
    return [*found, *(_group(title, rows, columns) for title, columns in groups.items())]


def _group(title: str, rows: list[Row], columns: list[Column]) -> Table:
    """The rows that have any of the columns."""
    places = [place for place in range(len(rows)) if any(c.cells[place] for c in columns)]
    kept = [rows[place] for place in places]
    return Table(title, kept, _names(kept), [_taken(column, places) for column in columns])


def _taken(column: Column, places: Sequence[int]) -> Column:
    cells = [column.cells[place] for place in places]
    bold = frozenset(at for at, place in enumerate(places) if place in column.bold)
    return Column(column.heading, cells, column.unit, bold, column.left, column.name)


def _names(rows: Sequence[Row]) -> list[Column]:
    """What names a row: model and seed only where there are several."""

    def named(heading: str, cell: Callable[[Row], str], *, left: bool = False) -> Column:
        return Column(heading, [cell(row) for row in rows], left=left, name=True)

    found = [named("method", lambda row: str(row.get("method")), left=True)]
    if len(models(rows)) > 1:
        found.insert(0, named("model", lambda row: short_name(str(row.get("model"))), left=True))
    found.append(named("target", lambda row: target_text(row.get("target"))))
    if several_seeds(rows):
        found.append(named("seed", lambda r: "" if r.get("seed") is None else str(r.get("seed"))))
    return found


def _with_ratio(rows: list[Row], figure: Figure, errors: bool) -> Iterator[Column]:
    """A figure, and beside it its ratio to the dense model's where that is told."""

    def cell(row: Row) -> str:
        if figure.headline and not is_completed(row):
            return str(row.get("status") or "unknown")
        return shown(figure, row, with_error=errors)

    yield _column(rows, figure, cell)
    if figure.relative:
        told = (
            format_ratio(ratio_to_dense(row, rows, figure)) if is_completed(row) else ""
            for row in rows
        )
        yield Column("vs dense", [f"{ratio}×" if ratio else "" for ratio in told])


def _cell_of(row: Row) -> tuple[str, str, str]:
    return str(row.get("model")), str(row.get("method")), target_text(row.get("target"))


def _column(rows: list[Row], figure: Figure, cell: Callable[[Row], str]) -> Column:
    winners = {
        (model, *winner) for model in models(rows) for winner in best(rows, model, figure)
    } if figure.headline else set()  # fmt: skip
    bold = frozenset(
        place
        for place, row in enumerate(rows)
        if (str(row.get("model")), str(row.get("method")), target_text(row.get("target")))
        in winners
        and is_completed(row)
    )
    return Column(figure.heading, [cell(row) for row in rows], unit(figure), bold)
