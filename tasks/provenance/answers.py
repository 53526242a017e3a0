"""Two results' answers to zero-shot tasks, where both homes still hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from configs.errors import ConfigurationError
from tasks.measures.zero_shot.measure import ALL_TASKS, PREFIX
from tasks.measures.zero_shot.paired import Paired, best, common, pair, pooled
from tasks.measures.zero_shot.questions import FILE, Question, main_metric, read_questions
from tasks.provenance.result import Result

ALL = "all tasks"
_MOST = 300
"""Characters of a question that are listed."""


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A question that A has right and B has not.

    Attributes:
        right, a, b: the right option and each side's answer; empty where a task has no options.
    """

    task: str
    document: int
    context: str
    right: str
    a: str
    b: str


@dataclass(frozen=True, kw_only=True)
class Answers:
    """
    Attributes:
        tasks: task → its comparison; last all of them, where there are several.
        broken: questions that A alone has right, as many as were asked for.
        unread: why a task could not be compared, a sentence each.
    """

    tasks: Mapping[str, Paired] = field(default_factory=dict)
    broken: Sequence[Changed] = ()
    unread: Sequence[str] = ()

    @property
    def sentences(self) -> list[str]:
        """A line a task."""
        return [f"{task}: {paired.sentence}." for task, paired in self.tasks.items()]

    def as_json(self) -> dict[str, Any]:
        told = {
            task: {**asdict(p), "accuracies": p.accuracies, "p": p.p, "interval": p.interval(),
                   "stderr": p.stderr, "verdict": p.verdict}
            for task, p in self.tasks.items()
        }  # fmt: skip
        return {"tasks": told, "broken": [asdict(q) for q in self.broken],
                "unread": list(self.unread)}  # fmt: skip


def compare_answers(a: Result, b: Result, metrics: tuple[str, str], questions: int) -> Answers:
    """Compare what both have kept of their questions.

    Args:
        metrics: the figures that are compared: one task's alone is compared by that figure, else
            all tasks by their main ones.
        questions: how many broken ones to list.

    Raises:
        ConfigurationError: questions are to be listed and there are none.
    """
    if not questions and not all(metric.startswith(PREFIX) for metric in metrics):
        return Answers()
    task, _, metric = metrics[0].removeprefix(PREFIX).rpartition("/")
    alone = metrics[0] == metrics[1] and bool(task) and metrics[0].startswith(PREFIX)
    parts: dict[str, Paired] = {}
    broken: list[Changed] = []
    unread: list[str] = []
    for name in [task] if alone else _tasks(a, b):
        try:
            mine, other = (_read(side, name) for side in (a, b))
            by = metric if alone else main_metric(mine)
            if by is None or not _judged(mine, other, by):
                continue  # no figure of right and wrong
            parts[name] = pair(mine, other, by)
            broken += _broken(name, mine, other, by)
        except (OSError, ValueError, KeyError) as error:
            unread.append(f"{name}: {error}")
    if questions and not parts:
        reason = "; ".join(unread) or "they have no zero-shot task in common"
        allowed = f"there are no answers of both sides to compare: {reason}"
        hint = "Name cells of sweeps whose stores are on this machine"
        raise ConfigurationError("--questions", questions, allowed, hint)
    if len(parts) > 1:
        parts[ALL] = pooled(parts.values())
    return Answers(tasks=parts, broken=broken[:questions], unread=unread)


def _tasks(a: Result, b: Result) -> list[str]:
    roles = [role for role in a.artifacts if role in b.artifacts and role.startswith(PREFIX)]
    tasks = [role.removeprefix(PREFIX) for role in roles]
    return [task for task in tasks if task != ALL_TASKS]  # the mean has no questions of its own


def _read(side: Result, task: str) -> list[Question]:
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
