"""A chart: panels of marks and lines on axes whose limits and ticks are fixed here."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.measures.figures import Figure
from tasks.reporting.charts.axis import Axis
from tasks.reporting.ordering import target_text
from tasks.reporting.rows import DENSE, Row, is_completed
from tasks.reporting.text import shown, with_unit
from tasks.reporting.views import Point, departure, group_of, learning, mean, ratio, series


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One cell, its seeds together, or the dense model.

    Attributes:
        x, y: as the axes show them; y is None where every seed diverged.
        bar: standard error, down from and up from y; 0 where none is known.
        diverged: whether a seed did: a second mark stands at the axis' edge.
        pale: whether another cell beats it.
        text: what it is, with its figures, a line each; as HTML.
    """

    method: str
    x: float
    y: float | None
    bar: float = 0.0
    diverged: bool = False
    pale: bool = False
    text: str = ""


@dataclass(frozen=True)
class Line:
    """Of a method, or of none: the front. ``dotted`` where it leads to a diverged cell."""

    method: str
    points: Sequence[tuple[float, float]]
    dotted: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One pair of axes; ``weight`` is its width against that of others in its row."""

    title: str = ""
    x: Axis
    y: Axis
    marks: Sequence[Mark]
    lines: Sequence[Line] = ()
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Chart:
    """Panels with one legend.

    Attributes:
        stem: its file's name, without suffix.
        section: the heading that a report puts it under.
        dense: where the dense model's line lies, as the axis shows it; None for no line.
        dense_text: names that line.
        front: names the lines that belong to no method; empty where there are none.
        asides: method → what its legend says beside its name, if anything.
        columns: panels abreast, at the most.
        share_y: whether all panels have the same vertical axis.
    """

    stem: str
    title: str
    note: str
    section: str
    panels: Sequence[Panel]
    dense: float | None
    dense_text: str
    front: str = ""
    asides: dict[str, tuple[str, ...]]
    columns: int
    share_y: bool

    @property
    def methods(self) -> list[str]:
        """Those drawn, in order of appearance; not the dense model."""
        found = dict.fromkeys(mark.method for panel in self.panels for mark in panel.marks)
        return [method for method in found if method != DENSE]


def asides_of(found: Sequence[Point]) -> dict[str, tuple[str, ...]]:
    """Method → what it learned from how much, whether it departs from its paper, lost seeds."""
    asides: dict[str, tuple[str, ...]] = {}
    lost = {point.method for point in found if point.lost}
    for point in found:
        for row in point.rows:
            learned = f"learned {told}" if (told := learning(row)) else ""
            departs = "departs from its paper" if departure(row) else ""
            failed = "some seeds failed" if point.method in lost else ""
            if told := tuple(filter(None, (learned, departs, failed))):
                asides[point.method] = told
    return asides


def mark_text(
    cells: Sequence[Row], rows: Sequence[Row], figures: Sequence[Figure], note: str = ""
) -> str:
    """A cell in words: model, method, target and seeds, then its figures, mean over the seeds.

    Args:
        cells: its rows, one a seed.
        rows: all of the model, the dense one among them.
    """
    first = cells[0]
    name = f"{series(first)} {target_text(first.get('target'))}".strip()
    seeds = [str(row["seed"]) for row in cells if row.get("seed") is not None]
    of_seeds = f", seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}" if seeds else ""
    lines = [f"<b>{html.escape(name)}</b>", html.escape(f"{first.get('model')}{of_seeds}")]
    lost = [r for r in rows if group_of(r) == group_of(first) and not is_completed(r)]
    lines += [f"failed: {len(lost)} of {len(lost) + len(cells)} seeds"] if lost else []
    for figure in figures:
        value = mean(figure.total(row) for row in cells)
        if value is None:
            continue
        unit = "" if figure.format == "bytes" else f" {figure.unit}".rstrip()
        told = f"{figure.label}: {shown(figure, value)}{unit}"
        times = mean(ratio(row, rows, figure) for row in cells) if figure.relative else None
        lines.append(html.escape(told + (f" ({times:.2f} × dense)" if times is not None else "")))
    learned = learning(first)
    lines += [html.escape(f"learned: {learned}")] if learned else []
    departs = departure(first)
    lines += [html.escape(f"departs from its paper: {departs}")] if departs else []
    return "<br>".join([*lines, *([note] if note else [])])


def axis_label(figure: Figure, *, relative: bool = False) -> str:
    """The figure's short name and unit; a chart's note has the long one, and so has the axis of a
    cost to which others are added: its short name is of one part."""
    name = figure.label if figure.added else figure.heading
    return with_unit(name, "× dense" if relative else figure.unit)


def file_word(figure: Figure) -> str:
    """The figure's part of a file name."""
    return figure.heading.lower().replace(" ", "-")


def distinct(names: Sequence[str]) -> list[str]:
    """Names for files: other characters become dashes, and a number tells equal ones apart."""
    stems: list[str] = []
    for name in names:
        base = re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.")[:120]
        stem, number = base, 2
        while stem.lower() in (taken.lower() for taken in stems):
            stem, number = f"{base}-{number}", number + 1
        stems.append(stem)
    return stems
