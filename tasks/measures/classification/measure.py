"""Text classification as a measure: every model is tuned for the task and scored by accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.measures.base import Subject
from tasks.measures.classification.settings import ClassificationSettings
from tasks.measures.classification.steps import TextClassificationTask
from tasks.measures.figures import Figure, Row, Value, instances
from tasks.measures.tuning.measure import TunedMeasure
from tasks.measures.tuning.steps import Task
from tasks.store.store import Artifact

PREFIX = "accuracy/"
_GROUP = "text classification"
_STDERR, _MACRO = "/stderr", "/macro_f1"


class TextClassification(TunedMeasure):
    """Accuracy and macro F1 on labelled texts after fine-tuning."""

    name = "text_classification"
    summary = "accuracy on labelled texts after fine-tuning, what was pruned held at zero"
    version = TextClassificationTask.version
    writes = (
        f"{PREFIX}<name>",
        f"{PREFIX}<name>{_STDERR}",
        f"{PREFIX}<name>{_MACRO}",
        f"{PREFIX}<name>{_MACRO}{_STDERR}",
    )
    Settings = ClassificationSettings

    def data_of(self, options: Any, where: str) -> Any:
        from tasks.measures.classification.records import resolve

        return resolve(options, where)

    def task_of(self, options: Any, data: Any) -> Task:
        return TextClassificationTask(options, data)

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        row: dict[str, Value] = {}
        for name, artifact in found.items():
            whole, facts = PREFIX + name, artifact.facts
            row |= {
                whole: facts["accuracy"],
                whole + _STDERR: facts["accuracy_stderr"],
                whole + _MACRO: facts["macro_f1"],
                whole + _MACRO + _STDERR: facts["macro_f1_stderr"],
            }
        return row

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        names = [name for name in instances(columns, PREFIX) if "/" not in name]
        several = len(names) > 1
        figures: list[Figure] = []
        for name in names:
            said = f" {name}" if several else ""
            headline = {"role": "quality", "headline": True, "relative": True}
            whole = PREFIX + name
            for column, told, more in (
                (whole, "accuracy", headline),
                (whole + _MACRO, "macro-F1", {}),
            ):
                error = column + _STDERR
                figures.append(
                    Figure(
                        column=column,
                        label=f"{told} on {name}",
                        heading=told + said,
                        group=_GROUP,
                        better="higher",
                        format="percent",
                        unit="%",
                        axis="linear",
                        error=error if error in columns else "",
                        **more,
                    )
                )
        return [figure for figure in figures if figure.column in columns]

    def notes(self, rows: Sequence[Row]) -> Sequence[str]:
        if not any(column.startswith(PREFIX) for row in rows for column in row):
            return ()
        return (
            "Accuracy of text classification: after fine-tuning; ± one standard error of a "
            "bootstrap over texts, and what differs by less than two of them is not called "
            "different.",
        )

    def described(self, subject: Subject, found: Mapping[str, Artifact]) -> Mapping[str, str]:
        told: dict[str, str] = {}
        for task in subject.evaluation.text_classification:
            if task.name in found:
                facts = found[task.name].facts
                size = ", ".join(f"{count} {part}" for part, count in facts["texts"].items())
                when = "tuned, then pruned" if task.finetune == "before" else "pruned, then tuned"
                told[f"text classification {task.name}"] = (
                    f"{facts['classes']} classes, labelled texts of files ({size}), "
                    f"{facts['largest_class']:.1%} of those tested in the largest class; {when}; "
                    f"{task.epochs} epochs at {task.learning_rate:g}, seed {task.seed}; "
                    f"test texts whose end is cut: {facts['documents_cut']}"
                )
        return told
