"""Labelled texts: JSON lines with ``text`` and ``label``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from configs.errors import ConfigurationError
from tasks.measures.classification.settings import ClassificationTask
from tasks.measures.tuning.records import (
    TEST,
    TRAIN,
    Read,
    RecordOf,
    label_in,
    read_parts,
    text_in,
)
from tasks.store.steps import Step


@dataclass(frozen=True)
class LabelledText:
    """One text and its class."""

    text: str
    label: str


@dataclass(frozen=True)
class LabelledData:
    """A task's texts."""

    read: Read[LabelledText]

    @property
    def labels(self) -> list[str]:
        """The classes, in alphabetical order."""
        return sorted({entry.label for entry in self.read.parts[TRAIN]})

    @property
    def step(self) -> Step:
        """The texts as an artifact; the same for every model."""
        return Step(
            name="label_data",
            inputs={"texts": dict(self.read.identity)},
            produce=self.read.produce,
            label="labelled texts",
            group="text classification",
        )


def resolve(task: ClassificationTask, where: str) -> LabelledData:
    """Read a task's texts.

    Raises:
        ConfigurationError: naming file and line.
    """
    read = read_parts(task.data, where, _reader, lambda entry: entry.text)
    data, field = LabelledData(read), f"{where}.data.{TRAIN}"
    if len(data.labels) < 2:
        told = f"labels {data.labels} in the {len(read.parts[TRAIN])} texts that are learned from"
        raise ConfigurationError(field, told, "texts of at least two classes can be told apart")
    strange = {entry.label for entry in read.parts[TEST]} - set(data.labels)
    if strange:
        told = f"label {min(strange)!r} only in the last quarter of its texts, which is tested"
        raise ConfigurationError(
            field, told, "every label is learned: shuffle the file, or name a test"
        )
    return data


def _reader(learned: Sequence[LabelledText]) -> RecordOf[LabelledText]:
    known = {entry.label for entry in learned}

    def entry_of(record: Mapping[str, Any]) -> LabelledText:
        text, label = text_in(record.get("text"), "text"), label_in(record.get("label"), "label")
        if known and label not in known:
            told = f"label {label!r} is none of those of train: {', '.join(sorted(known))}"
            raise ValueError(told)
        return LabelledText(text, label)

    return entry_of
