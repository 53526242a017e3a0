"""Answers against the dense model's, question by question: told by what zero-shot tasks keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from configs.frozen import Frozen
from tasks.measures.base import Measure, Subject
from tasks.measures.figures import Figure, Row, Value, instances
from tasks.measures.zero_shot.measure import task_steps
from tasks.measures.zero_shot.paired import Paired, pair, pooled
from tasks.measures.zero_shot.questions import judged_by, main_metric, read_questions
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

PREFIX = "answers/"
ALL = "all tasks"
_REFERENCE = "reference/"
_GROUP = "answers against the dense model's"


class AnswersSettings(Frozen):
    """Whether answers to zero-shot tasks are compared with the dense model's."""

    answers: bool = True
    """Compare each answer to zero-shot tasks with the dense model's; costs no forward pass."""


class Answers(Measure):
    """Of pruned models; it reads what zero-shot tasks have kept of every question."""

    name = "answers"
    version = 2
    summary = "which answers to zero-shot tasks pruning broke or mended, with McNemar's test"
    writes = tuple(
        f"{PREFIX}<task>/{kind}" for kind in ("agreement", "broken", "mended", "p", "low", "high")
    )
    Settings = AnswersSettings

    def steps(self, subject: Subject) -> Mapping[str, Step]:
        if not subject.evaluation.answers or subject.dense is None:
            return {}
        own, dense = task_steps(subject), task_steps(subject.dense)
        if not own:
            return {}
        step = Step(
            name="answers",
            version=self.version,
            inputs={},
            needs={**own, **{f"{_REFERENCE}{name}": step for name, step in dense.items()}},
            produce=lambda work: _produce(work, list(own)),
            label="answers against dense",
            group=subject.label,
        )
        return {"all": step}

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        row: dict[str, Value] = {}
        for task, facts in found["all"].facts["tasks"].items():
            row |= {f"{PREFIX}{task}/{kind}": value for kind, value in facts["told"].items()}
        return row

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        told = [name.rpartition("/") for name in instances(columns, PREFIX)]
        tasks = {task for task, _, _ in told}
        alone = len(tasks) == 1
        return [_figure(task, kind, alone=alone) for task, _, kind in told]

    def notes(self, rows: Sequence[Row]) -> Sequence[str]:
        if not any(column.startswith(PREFIX) for row in rows for column in row):
            return ()
        return (
            "Answers: only the dense model has broken questions right, only the pruned one mended "
            "ones; p is McNemar's exact test; low and high bound 95 % of the change in accuracy, "
            "by a bootstrap over questions.",
        )


def _figure(task: str, kind: str, *, alone: bool) -> Figure:
    words: dict[str, tuple[str, dict[str, Any]]] = {
        "agreement": ("same answer as the dense model", {
            "unit": "%", "better": "higher", "format": "percent", "dense": 1.0}),
        "broken": ("questions that only the dense model has right", {"format": "count"}),
        "mended": ("questions that only the pruned model has right", {
            "format": "count", "better": "higher"}),
        "p": ("McNemar's p against the dense model", {"better": ""}),
        "low": ("change in accuracy, 2.5 % bound", {
            "unit": "%", "format": "percent", "better": ""}),
        "high": ("change in accuracy, 97.5 % bound", {
            "unit": "%", "format": "percent", "better": ""}),
    }  # fmt: skip
    label, more = words[kind]
    whole = alone or task == ALL
    return Figure(
        column=f"{PREFIX}{task}/{kind}",
        label=label if whole else f"{label}, {task}",
        heading=kind if whole else f"{task} {kind}",
        group=_GROUP if whole else f"{_GROUP}, task by task",
        axis="linear",
        **more,
    )


def _produce(work: Work, tasks: Sequence[str]) -> Facts:
    parts: dict[str, Paired] = {}
    for task in tasks:
        own, dense = (
            read_questions(work.need(role).path) for role in (task, f"{_REFERENCE}{task}")
        )
        # Of what is not right or wrong, such as a perplexity, no answer changes sides.
        if (metric := main_metric(dense)) is not None and judged_by(metric, own):
            parts[task] = pair(dense, own, metric)
    if len(parts) > 1:
        parts[ALL] = pooled(parts.values())
    return {"tasks": {task: {"told": _told(p), "counts": asdict(p)} for task, p in parts.items()}}


def _told(paired: Paired) -> dict[str, float]:
    low, high = paired.interval()
    return {
        "agreement": paired.alike / paired.questions,
        "broken": paired.broken,
        "mended": paired.mended,
        "p": paired.p,
        "low": low,
        "high": high,
    }
