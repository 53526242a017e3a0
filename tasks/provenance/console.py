"""A comparison on the terminal: figures, verdict, then the inputs that differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tasks.measures.compared import ComparedAnswers
from tasks.provenance.aspects import ENVIRONMENT_ASPECTS
from tasks.provenance.differences import Compared, Difference, Kind
from tasks.provenance.verdict import Comparison
from tasks.reporting.text import format_precise

_WIDEST = 120
_NAMES = 28
"""Columns of an input's name."""
_TEXTS = ("evaluation", "calibration", "training")
_SECTIONS: tuple[tuple[Kind, str], ...] = (
    ("input", "Inputs that differ, what is known to matter most first"),
    ("consequence", "What follows from them"),
    ("immaterial", "Differs in name alone: what it determines is the same"),
    ("environment", "Environment"),
)


def rendered(comparison: Comparison, console: Console) -> RenderableType:
    """The whole comparison, for a terminal of 80 columns or more."""
    width = min(console.width, _WIDEST)
    compared = comparison.compared
    parts: list[RenderableType] = [*_heading(comparison, width), Text()]
    parts += [Text(sentence, style="bold") for sentence in comparison.verdict]
    parts += _answers(comparison.answers)
    number = 1
    for kind, title in _SECTIONS:
        entries = compared.of(kind)
        if not entries:
            continue
        parts += [Text(), Text(title, style="underline")]
        explained = kind in ("input", "environment")
        for entry in entries:
            label = f"{number}. " if kind == "input" else ""
            number += kind == "input"
            parts += _entry(entry, label, width, explained=explained)
    parts += _rest(compared, comparison)
    return Padding(Group(*parts), (0, console.width - width, 0, 0))


def _heading(comparison: Comparison, width: int) -> Iterator[RenderableType]:
    names = comparison.metrics
    yield Text(names[0] if names[0] == names[1] else f"A {names[0]}, B {names[1]}", style="bold")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    table.width = width
    sides = (comparison.a, comparison.b)
    for letter, side, value in zip("AB", sides, _precise(*comparison.figures), strict=True):
        place = Text(side.title, overflow="fold") + Text(f"\n{side.origin}", style="dim")
        table.add_row(Text(letter, style="bold"), Text(value, style="bold"), place)
    if comparison.ratio is not None:
        table.add_row("B/A", f"{comparison.ratio:.6g}", "")
    yield table
    if comparison.dense:
        a, b = _precise(*comparison.dense)
        yield Text(f"of the dense model: A {a}, B {b}", style="dim")


def _answers(answers: ComparedAnswers) -> Iterator[RenderableType]:
    """What changed sides, task by task, and the broken questions that were asked for."""
    if answers.tasks:
        yield Text()
        yield Text("Answers, question by question", style="underline")
    yield from map(Text, answers.sentences)
    for sentence in answers.unread:
        yield Text(f"Not compared: {sentence}.", style="yellow")
    if answers.broken:
        yield Text()
        yield Text("Questions that A has right and B has not", style="underline")
    for changed in answers.broken:
        yield Text(f"{changed.task}, document {changed.document}", style="bold")
        told = (("", changed.context), ("right: ", changed.right), ("B: ", changed.b))
        for label, text in told:
            if one := " ".join(text.split()):
                yield Padding(Text(f"{label}{one}"), (0, 0, 0, 3))


def _precise(a: float, b: float) -> tuple[str, str]:
    """Both figures, with as many digits as tell them apart."""
    small = 0 < min(abs(a), abs(b)) < 1
    short = (f"{a:.4g}", f"{b:.4g}") if small else (format_precise(a), format_precise(b))
    return short if a == b or short[0] != short[1] else (f"{a:.10g}", f"{b:.10g}")


def _entry(
    entry: Difference, label: str, width: int, *, explained: bool
) -> Iterator[RenderableType]:
    table = Table.grid(padding=(0, 1))
    value = (width - _NAMES - 2) // 2
    table.add_column(width=_NAMES, overflow="fold")
    table.add_column(width=value, overflow="fold")
    table.add_column(width=value, overflow="fold")
    name = Text(f"{label}{entry.title}", style="bold" if label else "")
    table.add_row(name, Text(entry.a, style="cyan"), Text(entry.b, style="magenta"))
    yield table
    if explained and not entry.key.endswith("_on"):
        yield Padding(Text(entry.why, style="dim"), (0, 0, 0, 3))


def _rest(compared: Compared, comparison: Comparison) -> Iterator[RenderableType]:
    if compared.same:
        yield Text()
        yield Text(f"The same: {_listed(compared.same)}.")
    for letter, side in (("A", comparison.a), ("B", comparison.b)):
        missing = [title for title, lacks in compared.unknown if lacks == letter]
        if missing:
            verb = "does not state" if side.reported else "does not record"
            yield Text()
            yield Text(f"{letter} {verb}, so not compared: {_listed(missing)}.", style="yellow")


def _listed(titles: Iterable[str]) -> str:
    """Titles in a sentence; options and the environment by their number, texts together."""
    environment = {title for title, _ in ENVIRONMENT_ASPECTS.values()}
    parts: dict[str, list[str]] = {}
    options = surroundings = 0
    for title in titles:
        first, _, rest = title.partition(" ")
        if title.startswith("option "):
            options += 1
        elif title.partition(",")[0] in environment:
            surroundings += 1
        elif first in _TEXTS and rest:
            parts.setdefault(first, []).append(rest)
        else:
            parts[title] = []
    named = [f"{part} ({', '.join(rest)})" if rest else part for part, rest in parts.items()]
    if options:
        named.append(f"{options} option{'s' if options > 1 else ''}")
    if surroundings:
        named.append(f"{surroundings} of the environment's facts")
    return ", ".join(named)
