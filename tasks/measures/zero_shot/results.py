"""What a task's measurement says, as numbers and as JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.measures.zero_shot.questions import Question

NO_FILTER = "none"
_MAIN = ("acc", "acc_norm", "exact_match", "f1")
_SHARES = (*_MAIN, "acc_bytes", "acc_mutual_info", "mcc")
RAW = "_raw"
"""Ends the name of a metric that is called as a share is and is none, such as per cent."""


def main_of(metrics: Iterable[str]) -> str:
    """The metric that stands for a task: the first of the usual ones, else the task's first."""
    names = list(metrics)
    return next((name for name in _MAIN if name in names), names[0])


def is_share(metric: str) -> bool:
    """Whether a metric is at most 1 and more of it is better: what may be averaged over tasks."""
    return metric.partition(",")[0] in _SHARES


def raw(metric: str) -> str:
    """The name of a metric of whose scale its usual name would say too much."""
    name, comma, filter_name = metric.partition(",")
    return f"{name}{RAW}{comma}{filter_name}" if is_share(metric) else metric


def _by_scale(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """No share is above 1."""
    return {raw(n) if (m.value or 0.0) > 1 else n: m for n, m in metrics.items()}


@dataclass(frozen=True)
class Metric:
    """
    Attributes:
        value: None where it is no number.
        stderr: of the mean over documents, or bootstrapped; None where there is none, as for one
            document.
        higher_is_better: None where the task does not say.
    """

    value: float | None
    stderr: float | None
    higher_is_better: bool | None


@dataclass(frozen=True)
class TaskResult:
    """
    Attributes:
        metrics: name → figures; ``name,filter`` where a task looks at answers through a filter.
            ``f1_raw`` in place of ``f1`` where it is no share.
        documents: how many were measured.
        documents_in_all: how many the task has.
        num_fewshot: examples before each question.
        version: of the task, as its file says.
        questions: each document's own part, in their order; JSON leaves it out.
    """

    metrics: Mapping[str, Metric]
    documents: int
    documents_in_all: int
    num_fewshot: int
    version: str
    questions: tuple[Question, ...] = field(default=(), compare=False, repr=False)

    @property
    def main(self) -> str:
        """The name of the metric that stands for the task."""
        return main_of(self.metrics)

    @property
    def value(self) -> float | None:
        """Of the main metric."""
        return self.metrics[self.main].value

    @property
    def stderr(self) -> float | None:
        """Of the main metric."""
        return self.metrics[self.main].stderr

    def as_json(self) -> dict[str, Any]:
        facts = dataclasses.asdict(dataclasses.replace(self, questions=()))
        del facts["questions"]
        return facts

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> TaskResult:
        metrics = {name: Metric(**entry) for name, entry in facts["metrics"].items()}
        return cls(**{**facts, "metrics": _by_scale(metrics)})


def result_of(task: str, found: Mapping[str, Any], unscaled: Collection[str] = ()) -> TaskResult:
    """One task's part of what the harness returns.

    Args:
        unscaled: metrics of which nobody knows whether they are at most 1.

    Raises:
        ValueError: it has no metric.
    """
    figures, better = found["results"][task], found["higher_is_better"].get(task, {})
    metrics: dict[str, Metric] = {}
    for key, value in figures.items():
        name, comma, filter_name = key.partition(",")
        if not comma or name.endswith("_stderr"):
            continue
        shown = name if filter_name == NO_FILTER else key
        shown = raw(shown) if name in unscaled else shown
        stderr = figures.get(f"{name}_stderr,{filter_name}")
        metrics[shown] = Metric(_number(value), _number(stderr), better.get(name))
    if not metrics:
        raise ValueError(f"the task {task} reports no metric")
    counts = found["n-samples"][task]
    return TaskResult(
        metrics=_by_scale(metrics),
        documents=counts["effective"],
        documents_in_all=counts["original"],
        num_fewshot=int(found["n-shot"].get(task, 0)),
        version=str(found["versions"].get(task)),
    )


def _number(value: Any) -> float | None:
    """None for what the harness writes as N/A, and for no number."""
    if isinstance(value, str) or value is None or not math.isfinite(value):
        return None
    return float(value)
