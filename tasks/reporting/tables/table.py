"""Rows and figures as tables of text: which there are, which columns, which cell is best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tasks.measures.figures import PRUNING, Figure, present
from tasks.reporting.ordering import target_text
from tasks.reporting.rows import Row, is_completed, is_dense
from tasks.reporting.text import escape_markdown, format_ratio, short_names, with_error
from tasks.reporting.views import (
    Point,
    best,
    departure,
    group_of,
    learning,
    models,
    points,
    ratio,
    several_seeds,
)

RESULTS = "Results"
OVER_SEEDS = "Over the seeds"
COST = "What pruning took"
_LEARNED_NOTE = (
    "Methods with an entry under *learned* trained on so many tokens (repetitions counted) of the "
    "training text: *weights*, the whole model was retrained; *mask*, only which heads and "
    "channels stay. The others change weights once, from calibration alone."
)
DEPARTS = "†"
_SPARSITY = next(figure for figure in PRUNING if figure.column == "sparsity")
_LEFT = [figure for figure in PRUNING if figure.column in ("exempt_weights", "excluded_weights")]
"""What stays dense; shown where there is any."""


@dataclass(frozen=True)
class Column:
    """One column; ``best`` holds the places of cells that no other of their target beats."""

    heading: str
    cells: Sequence[str]
    unit: str = ""
    is_name: bool = False
    is_detail: bool = False
    best: frozenset[int] = field(default=frozenset())


@dataclass(frozen=True)
class Table:
    """Columns of equally many cells, those that name a row first.

    Attributes:
        kinds: each row's: ``failed``, ``dense``, ``completed``, or another status.
        note: to be read below it; in Markdown.
    """

    title: str
    columns: Sequence[Column]
    kinds: Sequence[str]
    note: str = ""

    @property
    def names(self) -> list[Column]:
        return [column for column in self.columns if column.is_name]

    @property
    def lines(self) -> list[tuple[str, ...]]:
        return list(zip(*(column.cells for column in self.columns), strict=True))


def results_tables(rows: Sequence[Row], figures: Sequence[Figure]) -> list[Table]:
    """The first with the headline figures, then what pruning took, then one a group of figures.

    A row of which a later table would say nothing is not in it. Columns for model and seed stand
    only where there are several.
    """
    figures = present(figures, [row for row in rows if is_completed(row)])
    tables = [_headlines(rows, figures), _over_seeds(rows, figures), _cost(rows, figures)]
    own = {figure.column for figure in PRUNING}
    groups: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.column not in own:
            groups.setdefault(figure.group, []).append(figure)
    for group, members in groups.items():
        if not all(figure.headline for figure in members):
            columns = _figure_columns(members)
            tables.append(_table(group[:1].upper() + group[1:], rows, rows, columns))
    return [tables[0], *(table for table in tables[1:] if table.kinds)]


_Made = Callable[[Sequence[Row], Sequence[Row]], Column]
"""(rows shown, all rows) → a column."""


def _departures(rows: Sequence[Row]) -> str:
    """A line for the methods that are marked, in Markdown; empty for none."""
    found = {str(row.get("method")): told for row in rows if (told := departure(row))}
    told = "; ".join(f"*{name}*: {how}" for name, how in found.items())
    return f"{DEPARTS} departs from its paper. {told}." if found else ""


def _headlines(rows: Sequence[Row], figures: Sequence[Figure]) -> Table:
    headline = [figure for figure in figures if figure.headline]
    zeros = [_SPARSITY, *(f for f in _LEFT if any(row.get(f.column) for row in rows))]
    table = _table(RESULTS, rows, rows, _figure_columns([*headline, *zeros]))
    first = table.columns[len(table.names)]
    # What has no figures says why in place of the first.
    cells = [
        cell if is_completed(row) else str(row.get("status") or "unknown")
        for cell, row in zip(first.cells, rows, strict=True)
    ]
    columns = [replace(c, cells=cells) if c is first else c for c in table.columns]
    return replace(table, columns=columns, note=_departures(rows))


def _over_seeds(rows: Sequence[Row], figures: Sequence[Figure]) -> Table:
    """Mean and standard error of each headline figure, a line for the cells of all seeds."""
    headline = [figure for figure in figures if figure.headline]
    found = {
        (model, point.method, point.target, figure.column): point
        for model in models(rows)
        for figure in headline
        for point in points(rows, model, figure)
    }
    cells: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows if several_seeds(rows) else []:
        if is_completed(row) and not is_dense(row):
            cells.setdefault((str(row.get("model")), *group_of(row)), []).append(row)
    cells = {key: mine for key, mine in cells.items() if len(mine) > 1}

    # What has lost all seeds but one has no line here, and takes no mark from those that have.
    here = [r for r in rows if is_dense(r) or (str(r.get("model")), *group_of(r)) in cells]

    def means(figure: Figure) -> Column:
        told = [_mean(figure, found.get((*key, figure.column))) for key in cells]
        ranks = {(m, *cell) for m in models(rows) for cell in best(here, m, figure)}
        won = frozenset(place for place, key in enumerate(cells) if key in ranks)
        return Column(figure.heading, told, figure.unit, best=won)

    first = [mine[0] for mine in cells.values()]
    names = [column for column in _names(first, rows) if column.heading != "seed"]
    tried = Counter((str(row.get("model")), *group_of(row)) for row in rows)
    left = {key: len(mine) for key, mine in cells.items()}
    told = [str(n) if n == tried[key] else f"{n} of {tried[key]}" for key, n in left.items()]
    count = Column("seeds", told)
    columns = [*names, count, *map(means, headline)]
    own = {
        column
        for (*key, column), point in found.items()
        if tuple(key) in cells and point.error is not None
    }
    note = "Mean ± standard error of the mean over the seeds; without ± where all give the same."
    if any(n < tried[key] for key, n in left.items()):
        note += " Where seeds failed, the mean is of the others, and is never the best."
    if named := ", ".join(escape_markdown(f.heading) for f in headline if f.column in own):
        note += f" The ± of {named} holds the error of its test set too, whatever the seeds give."
    return Table(OVER_SEEDS, columns, ["completed"] * len(cells), note)


def _mean(figure: Figure, point: Point | None) -> str:
    """With its standard error; a seed that diverged takes the mean with it."""
    if point is None:
        return ""
    if point.diverged:
        return f"diverged: {len(point.values) - len(point.finite)} of {len(point.values)}"
    return with_error(figure, point.mean, point.standard_error)


def _cost(rows: Sequence[Row], figures: Sequence[Figure]) -> Table:
    def learned(mine: Sequence[Row], _: Sequence[Row]) -> Column:
        told = [learning(row).replace(" tokens", "") for row in mine]
        return Column("learned", told, "tokens")

    said = any(map(learning, rows))
    elsewhere = {"sparsity", "training_tokens", *(figure.column for figure in _LEFT)}
    spent = [f for f in PRUNING if f in figures and f.column not in elsewhere]
    columns = [*([learned] if said else []), *_figure_columns(spent)]
    cells = [row for row in rows if is_completed(row) and not is_dense(row)]
    return _table(COST, cells, rows, columns, _LEARNED_NOTE if said else "")


def _figure_columns(figures: Sequence[Figure]) -> list[_Made]:
    made: list[_Made] = []
    for figure in figures:
        made.append(lambda mine, rows, figure=figure: _values(mine, rows, figure))
        if figure.relative:
            made.append(lambda mine, rows, figure=figure: _ratios(mine, rows, figure))
    return made


def _table(
    title: str, mine: Sequence[Row], rows: Sequence[Row], made: Sequence[_Made], note: str = ""
) -> Table:
    """``mine`` of ``rows``, less those without a cell, except in the first table."""
    if title != RESULTS:
        filled = zip(*(make(mine, rows).cells for make in made), strict=True)
        mine = [row for row, cells in zip(mine, filled, strict=False) if any(cells)]
    columns = [*_names(mine, rows), *(make(mine, rows) for make in made)]
    return Table(title, columns, [_kind(row) for row in mine], note)


def _method(row: Row) -> str:
    return f"{row.get('method')}{f' {DEPARTS}' if departure(row) else ''}"


def _names(mine: Sequence[Row], rows: Sequence[Row]) -> list[Column]:
    found = [
        Column("method", [_method(row) for row in mine], is_name=True),
        Column("target", [target_text(row.get("target")) for row in mine], is_name=True),
    ]
    if len(models(rows)) > 1:
        short = short_names(models(rows))
        names = [short[str(row.get("model"))] for row in mine]
        found.insert(0, Column("model", names, is_name=True))
    if any(row.get("selection") for row in rows):
        selections = [str(row.get("selection") or "") for row in mine]
        found.append(Column("selection", selections, is_name=True))
    if several_seeds(rows):
        seeds = ["" if (seed := row.get("seed")) is None else str(seed) for row in mine]
        found.append(Column("seed", seeds, is_name=True))
    return found


def _values(mine: Sequence[Row], rows: Sequence[Row], figure: Figure) -> Column:
    def cell(row: Row) -> str:
        if not is_completed(row) or (
            figure is _SPARSITY and is_dense(row) and not row.get("sparsity")
        ):
            return ""
        return with_error(figure, row.get(figure.column), figure.standard_error(row))

    # Of what is a part of a cost, such as pruning without calibration, the least is no merit; nor
    # is it a single seed's that the mean of all is the best.
    ranked = [] if figure.added or several_seeds(rows) else models(rows)
    winners = {(model, *cell) for model in ranked for cell in best(rows, model, figure)}
    named = [(str(row.get("model")), *group_of(row)) for row in mine]
    marked = frozenset(place for place, name in enumerate(named) if name in winners)
    unit = "" if figure.format == "bytes" else figure.unit
    detail = figure.role == "detail" and not figure.headline and figure is not _SPARSITY
    cells = [cell(row) for row in mine]
    return Column(figure.heading, cells, unit, is_detail=detail, best=marked)


def _ratios(mine: Sequence[Row], rows: Sequence[Row], figure: Figure) -> Column:
    ratios = [ratio(row, rows, figure) if is_completed(row) else None for row in mine]
    return Column("×\u00a0dense", [format_ratio(value) for value in ratios])


def _kind(row: Row) -> str:
    return "dense" if is_dense(row) and is_completed(row) else str(row.get("status"))
