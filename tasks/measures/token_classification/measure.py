"""Token classification as a measure: every model is tuned for the task and scored by span F1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.measures.base import Subject
from tasks.measures.figures import Figure, Row, Value
from tasks.measures.token_classification.settings import TokenClassificationSettings
from tasks.measures.token_classification.steps import TokenClassificationTask
from tasks.measures.tuning.measure import Share, SharesMeasure, how_tuned, sizes_of
from tasks.measures.tuning.task import Task
from tasks.store.store import Artifact

_UNREAD = "words_unread"


class TokenClassification(SharesMeasure):
    """Micro-F1 of spans on sentences whose words are labelled, after fine-tuning."""

    name = "token_classification"
    summary = "F1 of labelled spans after fine-tuning, what was pruned held at zero"
    version = TokenClassificationTask.version
    prefix = "span_f1/"
    group = "token classification"
    shares = (
        Share(fact="f1", suffix="", words="span F1"),
        Share(fact="precision", suffix="precision", words="span precision"),
        Share(fact="recall", suffix="recall", words="span recall"),
        Share(fact="token_accuracy", suffix="token_accuracy", words="token accuracy"),
    )
    writes = (
        f"{prefix}<name>",
        f"{prefix}<name>/stderr",
        f"{prefix}<name>/<share>",
        f"{prefix}<name>/<share>/stderr",
        f"{prefix}<name>/{_UNREAD}",
    )
    Settings = TokenClassificationSettings

    def data_of(self, options: Any, where: str) -> Any:
        from tasks.measures.token_classification.records import resolve

        return resolve(options, where)

    def task_of(self, options: Any, data: Any) -> Task:
        return TokenClassificationTask(options, data)

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        """Words that were not read have a column where there are any."""
        unread = {f"{self.prefix}{n}/{_UNREAD}": a.facts[_UNREAD] for n, a in found.items()}
        return {**super().columns(found), **{column: n for column, n in unread.items() if n}}

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        told = list(super().figures(columns))
        for column in columns:
            if column.startswith(self.prefix) and column.endswith(f"/{_UNREAD}"):
                name = column.removeprefix(self.prefix).removesuffix(f"/{_UNREAD}")
                told.append(
                    Figure(
                        column=column,
                        label=f"test words of {name} beyond max_tokens or the model's length",
                        heading=f"cut words of {name}",
                        group=self.group,
                        unit="words",
                        format="count",
                        better="",
                    )
                )
        return told

    def notes(self, rows: Sequence[Row]) -> Sequence[str]:
        if not any(column.startswith(self.prefix) for row in rows for column in row):
            return ()
        first = (
            "Span F1: micro-average over spans after fine-tuning, right where first word, last "
            "word and type are; ± one standard error of a bootstrap over sentences, and what "
            "differs by less than two of them is not called different."
        )
        unread = [
            f"{figure.label}, or make no token, count as O: {most:.0f} at most."
            for figure in self.figures(list(dict.fromkeys(c for row in rows for c in row)))
            if figure.column.endswith(f"/{_UNREAD}")
            and (most := max(figure.value(row) or 0 for row in rows))
        ]
        return (first, *unread)

    def described(self, subject: Subject, found: Mapping[str, Artifact]) -> Mapping[str, str]:
        told: dict[str, str] = {}
        for task in subject.evaluation.token_classification:
            if task.name in found:
                facts = found[task.name].facts
                said = [
                    f"{facts['labels']} labels, labelled sentences of files "
                    f"({sizes_of(facts['sentences'])})",
                    how_tuned(task),
                    f"test words: {facts['words']}, of them cut: {facts[_UNREAD]}",
                ]
                for fact, words in (
                    ("never_learned", "labels of test that train lacks"),
                    ("never_tested", "labels of train that test lacks"),
                ):
                    if facts[fact]:
                        said.append(f"{words}: {', '.join(facts[fact])}")
                told[f"token classification {task.name}"] = "; ".join(said)
        return told
