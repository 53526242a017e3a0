"""What the measures that tune models for tasks of their own have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from configs.trust import Trust
from tasks.measures.base import Measure, Subject
from tasks.measures.tuning.steps import Task, score_step
from tasks.store.steps import Step
from tasks.store.store import Artifact


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
        return {
            task.name: self.data_of(task, f"evaluation.{self.name}[{index}]")
            for index, task in enumerate(getattr(evaluation, self.name))
        }

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
