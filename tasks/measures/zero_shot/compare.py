"""Two models' answers to zero-shot tasks, where both homes still hold them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tasks.measures.compared import Changed, ComparedAnswers, Kept
from tasks.measures.zero_shot.measure import ALL_TASKS, ASKED, PREFIX
from tasks.measures.zero_shot.paired import Paired, best, common, pair, pooled
from tasks.measures.zero_shot.questions import (
    FILE,
    Question,
    judged_by,
    main_metric,
    read_questions,
)
from tasks.store.manifest import read_manifest

ALL = "all tasks"
_MOST = 300
"""Characters of a question that are listed."""


def compare_answers(
    a: Kept, b: Kept, columns: tuple[str, str], *, wanted: bool
) -> ComparedAnswers | None:
    """Compare what both have kept of their questions.

    Tasks are those that the figure was made of, and are the same where they have the same name,
    whether they were named themselves or by a group.

    Args:
        columns: the figures that are compared: a task or a group by that figure, else all tasks
            by their main ones.
        wanted: questions are to be listed, whatever the figures are.
    """
    if not wanted and not all(column.startswith(PREFIX) for column in columns):
        return None
    role, _, metric = columns[0].rpartition("/")
    named = columns[0] == columns[1] and role.startswith(PREFIX)
    goal = role.removeprefix(PREFIX) if named else ALL_TASKS
    try:
        mine, others = (_tasks(side, goal) for side in (a, b))
    except OSError as error:
        return ComparedAnswers(unread=[f"{goal}: {error}"])
    parts: dict[str, Paired] = {}
    broken: list[Changed] = []
    unread: list[str] = []
    for side, own, other in ((a, mine, others), (b, others, mine)):
        if missing := [name for name in other if name not in own]:
            unread.append(f"{', '.join(missing)}: {side.reference} was not asked")
    unjudged: dict[str, list[str]] = {}
    for name in (name for name in mine if name in others):
        try:
            asked, again = _read(a, mine[name]), _read(b, others[name])
            by = _kept(mine[name], metric) if named else main_metric(asked)
            if by is None or not judged_by(by, asked, again):
                unjudged.setdefault(by or "the main figure", []).append(name)
                continue
            parts[name] = pair(asked, again, by)
            broken += _broken(name, asked, again, by)
        except (OSError, ValueError, KeyError) as error:
            unread.append(f"{name}: {error}")
    for by, names in unjudged.items():
        unread.append(f"{', '.join(names)}: no question is kept as right or wrong by {by}")
    if len(parts) > 1:
        parts[ALL] = pooled(parts.values())
    return ComparedAnswers(tasks=parts, broken=broken, unread=unread)


def _tasks(side: Kept, goal: str) -> dict[str, Path]:
    """The tasks that a task's, a group's or the mean's figure was made of → their folders.

    Raises:
        OSError: the store does not say of which.
    """
    try:
        return _behind(goal, side.artifacts[f"{PREFIX}{goal}"])
    except (OSError, ValueError, KeyError) as error:
        raise _absent(side) from error


def _behind(name: str, folder: Path) -> dict[str, Path]:
    if folder.parent.name == ASKED:
        return {name: folder}
    needs = read_manifest(folder)["needs"]  # by the tasks' own names
    found: dict[str, Path] = {}
    for need, place in needs.items():
        found |= _behind(need, folder.parents[1] / place)
    return found


def _read(side: Kept, folder: Path) -> list[Question]:
    if not (folder / FILE).is_file():
        raise _absent(side)
    return read_questions(folder)


def _absent(side: Kept) -> OSError:
    return OSError(f"the store of {side.reference} does not hold its questions here")


def _kept(folder: Path, metric: str) -> str:
    """What questions call a figure of their task: they keep answers through its first filter."""
    kind, filtered, _ = metric.partition(",")
    if not filtered:
        return metric
    figures = read_manifest(folder)["facts"]["result"]["metrics"]
    first = next((name for name in figures if name.partition(",")[0] == kind), None)
    return kind if metric == first else metric


def _broken(
    task: str, mine: Sequence[Question], other: Sequence[Question], metric: str
) -> Iterator[Changed]:
    for a, b in common(mine, other):
        if a.metrics[metric] > b.metrics[metric]:
            several = len(a.options) > 1
            yield Changed(
                task=task,
                document=a.document,
                context=a.context[-_MOST:],
                right=" | ".join(a.options[place] for place in a.gold) if several else "",
                a=a.options[best(a.scores(metric))] if several else "",
                b=b.options[best(b.scores(metric))] if several else "",
            )
