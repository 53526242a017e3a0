"""What the measures that tune models for tasks of their own have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from configs.trust import Trust
from tasks.measures.base import Measure, Subject
from tasks.measures.figures import Figure, Value, instances
from tasks.measures.tuning.settings import Tuning
from tasks.measures.tuning.steps import score_step
from tasks.measures.tuning.task import Task
from tasks.store.steps import Step
from tasks.store.store import Artifact

STDERR = "stderr"
"""Ends the column of a figure's standard error."""


class TunedMeasure(Measure):
    """Its tasks stand in the sweep file's section of its name, and each has a score."""

    @abstractmethod
    def data_of(self, options: Any, where: str) -> Any:
        """What a task learns from and is tested on.

        Args:
            where: of the sweep file the task stands, for messages.

        Raises:
            ConfigurationError: naming file and line.
        """

    @abstractmethod
    def task_of(self, options: Any, data: Any) -> Task:
        """A task of the sweep file with its data."""

    def resolve(self, evaluation: Any, trust: Trust) -> Any:
        found = {}
        for index, task in enumerate(getattr(evaluation, self.name)):
            where = f"evaluation.{self.name}[{index}]"
            found[task.name] = self.data_of(task, where)
        return found

    def steps(self, subject: Subject) -> Mapping[str, Step]:
        resolved = subject.resolved[self.name]
        return {
            task.name: score_step(subject, self.task_of(task, resolved[task.name]))
            for task in getattr(subject.evaluation, self.name)
        }

    def history(self, found: Mapping[str, Artifact]) -> Sequence[Mapping[str, float]]:
        return [
            {"step": epoch["step"], f"{self.name}/{name}/loss": epoch["loss"]}
            for name, artifact in found.items()
            for epoch in artifact.facts["history"]
        ]


def how_tuned(task: Tuning) -> str:
    """For the report: ``pruned, then tuned; 4 epochs at 0.0005, seed 0``."""
    when = "tuned, then pruned" if task.finetune == "before" else "pruned, then tuned"
    return f"{when}; {task.epochs} epochs at {task.learning_rate:g}, seed {task.seed}"


def sizes_of(counts: Mapping[str, int]) -> str:
    """For the report: ``60 train, 20 test``."""
    return ", ".join(f"{count} {part}" for part, count in counts.items())


@dataclass(frozen=True, kw_only=True)
class Share:
    """A figure between 0 and 1 of a score.

    Attributes:
        fact: of the score's artifact; its error is the fact ``<fact>_stderr``.
        suffix: of its column, behind the task's name; empty for the headline.
        words: what tables and plots call it.
    """

    fact: str
    suffix: str
    words: str

    def column(self, name: str, prefix: str) -> str:
        """Of the task of this name."""
        return "/".join(part for part in (prefix + name, self.suffix) if part)


class SharesMeasure(TunedMeasure):
    """A tuned measure whose figures are shares, each with its bootstrap's standard error.

    Attributes:
        prefix: begins its columns.
        group: names its table.
        shares: its figures, the headline first.
    """

    prefix: ClassVar[str]
    group: ClassVar[str]
    shares: ClassVar[tuple[Share, ...]]

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        row: dict[str, Value] = {}
        for name, artifact in found.items():
            for share in self.shares:
                column = share.column(name, self.prefix)
                row[column] = artifact.facts[share.fact]
                row[f"{column}/{STDERR}"] = artifact.facts[f"{share.fact}_{STDERR}"]
        return row

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        names = [name for name in instances(columns, self.prefix) if "/" not in name]
        figures: list[Figure] = []
        for name in names:
            said = f" {name}" if len(names) > 1 else ""
            for share in self.shares:
                column = share.column(name, self.prefix)
                error = f"{column}/{STDERR}"
                headline = {"role": "quality", "headline": True, "relative": True}
                figures.append(
                    Figure(
                        column=column,
                        label=f"{share.words} on {name}",
                        heading=share.words + said,
                        group=self.group,
                        better="higher",
                        format="percent",
                        unit="%",
                        axis="linear",
                        error=error if error in columns else "",
                        **({} if share.suffix else headline),
                    )
                )
        return [figure for figure in figures if figure.column in columns]
