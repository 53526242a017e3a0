"""What a measure tells of two models beyond their figures: their answers, question by question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from tasks.measures.zero_shot.paired import Paired


class Kept(Protocol):
    """A model's results, wherever they are."""

    @property
    def reference(self) -> str:
        """As the user wrote it."""
        ...

    @property
    def artifacts(self) -> Mapping[str, Path]:
        """Role of a measurement → its folder, which may be gone."""
        ...


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
class ComparedAnswers:
    """What two models answered to the same questions.

    Attributes:
        tasks: task → its comparison; a measure with several tells all of them last.
        broken: questions that A alone has right.
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


def joined(found: Mapping[str, ComparedAnswers]) -> ComparedAnswers:
    """Of several measures; a task that two of them have is told with the measure's name."""
    told = Counter(task for answers in found.values() for task in answers.tasks)

    def named(measure: str, task: str) -> str:
        return f"{measure}/{task}" if told[task] > 1 else task

    return ComparedAnswers(
        tasks={
            named(measure, task): paired
            for measure, answers in found.items()
            for task, paired in answers.tasks.items()
        },
        broken=[
            replace(changed, task=named(measure, changed.task))
            for measure, answers in found.items()
            for changed in answers.broken
        ],
        unread=[sentence for answers in found.values() for sentence in answers.unread],
    )
