"""Slot filling as a measure: every model is tuned for the task and scored by micro-F1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tasks.measures.base import Subject
from tasks.measures.figures import Figure, Row, Value, instances
from tasks.measures.slot_filling.settings import SlotFillingSettings
from tasks.measures.slot_filling.steps import SlotFillingTask, columns_of
from tasks.measures.tuning.measure import STDERR, TunedMeasure, how_tuned, sizes_of
from tasks.measures.tuning.task import Task
from tasks.store.store import Artifact

PREFIX = "slot_f1/"
_GROUP, _EVENTS = "slot filling", "slot F1 by event"
_WHOLE = {"precision": "precision", "recall": "recall", "macro_f1": "macro-F1"}


class SlotFilling(TunedMeasure):
    """Micro-F1 on annotated tweets after fine-tuning; see ``shared task 3`` of W-NUT 2020."""

    name = "slot_filling"
    summary = "F1 of slot filling after fine-tuning, what was pruned held at zero"
    version = SlotFillingTask.version
    writes = (
        f"{PREFIX}<name>",
        f"{PREFIX}<name>/{STDERR}",
        *(f"{PREFIX}<name>/{part}" for part in _WHOLE),
        f"{PREFIX}<name>/<event>",
    )
    suggested_for = "encoders"
    Settings = SlotFillingSettings

    def data_of(self, options: Any, where: str) -> Any:
        from tasks.measures.slot_filling.data import resolve

        return resolve(options, where)

    def task_of(self, options: Any, data: Any) -> Task:
        return SlotFillingTask(options, data)

    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        row: dict[str, Value] = {}
        for name, artifact in found.items():
            row |= columns_of(name, artifact.facts)
        return row

    def curves(self, found: Mapping[str, Artifact]) -> Mapping[str, Sequence[tuple[float, float]]]:
        return {
            f"{PREFIX}{name}/precision": [(recall, precision) for recall, precision in points]
            for name, artifact in found.items()
            if (points := artifact.facts["precision_recall"])
        }

    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        told = instances(columns, PREFIX)
        names = [name for name in told if "/" not in name]
        several = len(names) > 1
        figures: list[Figure] = []
        for name in names:
            said = f" {name}" if several else ""
            parts = [p.removeprefix(f"{name}/") for p in told if p.startswith(f"{name}/")]
            error = f"{PREFIX}{name}/{STDERR}" if STDERR in parts else ""
            figures.append(
                _figure(
                    name,
                    f"slot F1 on {name}",
                    f"slot F1{said}",
                    role="quality",
                    headline=True,
                    relative=True,
                    error=error,
                )
            )
            for part in parts:
                if part in _WHOLE:
                    label = f"{_WHOLE[part]} of slots on {name}"
                    heading = f"{_WHOLE[part]}{said}"
                    figures.append(_figure(f"{name}/{part}", label, heading, over="recall"))
                elif part != STDERR:
                    words = part.replace("_", " ")
                    label = f"slot F1 of {words} on {name}"
                    figures.append(
                        _figure(
                            f"{name}/{part}",
                            label,
                            f"{words}{said}",
                            group=_EVENTS,
                            part_of=PREFIX + name,
                        )
                    )
        return figures

    def notes(self, rows: Sequence[Row]) -> Sequence[str]:
        if not any(column.startswith(PREFIX) for row in rows for column in row):
            return ()
        return (
            "Slot F1: micro-average over the task's slots after fine-tuning; ± one standard error "
            "over tweets, and what differs by less than two of them is not called different.",
        )

    def described(self, subject: Subject, found: Mapping[str, Artifact]) -> Mapping[str, str]:
        told: dict[str, str] = {}
        for task in subject.evaluation.slot_filling:
            if task.name in found:
                size = sizes_of(found[task.name].facts["tweets"])
                what = "annotated tweets of files"
                if task.data.source == "generated":
                    what = "templated tweets, easy by design: no figures of the shared task"
                never = ", ".join(found[task.name].facts["never_filled"])
                told[f"slot filling {task.name}"] = (
                    f"{what} ({size}); {how_tuned(task)}"
                    f"; test tweets whose end is cut: {found[task.name].facts['documents_cut']}"
                    + (f"; without a positive in train: {never}" if never else "")
                )
        return told


def _figure(column: str, label: str, heading: str, group: str = _GROUP, **more: Any) -> Figure:
    return Figure(
        column=PREFIX + column,
        label=label,
        heading=heading,
        group=group,
        better="higher",
        format="precise",
        axis="linear",
        **more,
    )
