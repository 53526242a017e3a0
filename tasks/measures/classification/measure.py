"""Text classification as a measure: every model is tuned for the task and scored by accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.measures.base import Subject
from tasks.measures.classification.settings import ClassificationSettings
from tasks.measures.classification.steps import TextClassificationTask
from tasks.measures.figures import Row
from tasks.measures.tuning.measure import Share, SharesMeasure, how_tuned, sizes_of
from tasks.measures.tuning.task import Task
from tasks.store.store import Artifact


class TextClassification(SharesMeasure):
    """Accuracy and macro F1 on labelled texts after fine-tuning."""

    name = "text_classification"
    summary = "accuracy on labelled texts after fine-tuning, what was pruned held at zero"
    version = TextClassificationTask.version
    prefix = "accuracy/"
    group = "text classification"
    shares = (
        Share(fact="accuracy", suffix="", words="accuracy"),
        Share(fact="macro_f1", suffix="macro_f1", words="macro-F1"),
    )
    writes = (
        f"{prefix}<name>",
        f"{prefix}<name>/stderr",
        f"{prefix}<name>/macro_f1",
        f"{prefix}<name>/macro_f1/stderr",
    )
    Settings = ClassificationSettings

    def data_of(self, options: Any, where: str) -> Any:
        from tasks.measures.classification.records import resolve

        return resolve(options, where)

    def task_of(self, options: Any, data: Any) -> Task:
        return TextClassificationTask(options, data)

    def notes(self, rows: Sequence[Row]) -> Sequence[str]:
        if not any(column.startswith(self.prefix) for row in rows for column in row):
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
                told[f"text classification {task.name}"] = (
                    f"{facts['classes']} classes, labelled texts of files "
                    f"({sizes_of(facts['texts'])}), "
                    f"{facts['largest_class']:.1%} of those tested in the largest class; "
                    f"{how_tuned(task)}; test texts whose end is cut: {facts['documents_cut']}"
                )
        return told
