"""Two models' answers to zero-shot tasks, where both homes still hold them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks.measures.compared import Changed, ComparedAnswers, Kept
from tasks.measures.zero_shot.measure import ALL_TASKS, PREFIX
from tasks.measures.zero_shot.paired import Paired, best, common, pair, pooled
from tasks.measures.zero_shot.questions import FILE, Question, main_metric, read_questions

ALL = "all tasks"
_MOST = 300
"""Characters of a question that are listed."""


def compare_answers(
    a: Kept, b: Kept, columns: tuple[str, str], *, wanted: bool
) -> ComparedAnswers | None:
    """Compare what both have kept of their questions.

    Args:
        columns: the figures that are compared: one task's alone is compared by that figure, else
            all tasks, or those of a group, by their main ones.
        wanted: questions are to be listed, whatever the figures are.
    """
    if not wanted and not all(column.startswith(PREFIX) for column in columns):
        return None
    task, _, metric = columns[0].removeprefix(PREFIX).rpartition("/")
    named = columns[0] == columns[1] and bool(task) and columns[0].startswith(PREFIX)
    all_tasks = _tasks(a, b)
    members = [name for name in all_tasks if named and name.startswith(f"{task}/")]
    alone = named and not members
    parts: dict[str, Paired] = {}
    broken: list[Changed] = []
    unread: list[str] = []
    for name in [task] if alone else members or all_tasks:
        try:
            mine, other = (_read(side, name) for side in (a, b))
            by = metric if alone else main_metric(mine)
            if by is None or not _judged(mine, other, by):
                continue  # no figure of right and wrong
            parts[name] = pair(mine, other, by)
            broken += _broken(name, mine, other, by)
        except (OSError, ValueError, KeyError) as error:
            unread.append(f"{name}: {error}")
    if len(parts) > 1:
        parts[ALL] = pooled(parts.values())
    return ComparedAnswers(tasks=parts, broken=broken, unread=unread)


def _tasks(a: Kept, b: Kept) -> list[str]:
    roles = [role for role in a.artifacts if role in b.artifacts and role.startswith(PREFIX)]
    tasks = [role.removeprefix(PREFIX) for role in roles]
    # The mean and groups have no questions of their own.
    return [
        task
        for task in tasks
        if task != ALL_TASKS and not any(other.startswith(f"{task}/") for other in tasks)
    ]


def _read(side: Kept, task: str) -> list[Question]:
    folder = side.artifacts.get(f"{PREFIX}{task}")
    if folder is None or not (folder / FILE).is_file():
        raise OSError(f"the store of {side.reference} does not hold its questions here")
    return read_questions(folder)


def _judged(mine: Sequence[Question], other: Sequence[Question], metric: str) -> bool:
    both = (*mine, *other)
    return all(entry.metrics.get(metric) in (0.0, 1.0) for entry in both)


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
