"""Labelled sentences: JSON lines with ``tokens`` and ``labels``, one of each a word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from configs.errors import ConfigurationError
from tasks.measures.token_classification.settings import TokenTask
from tasks.measures.token_classification.spans import Labels, parted
from tasks.measures.tuning.records import (
    TEST,
    TRAIN,
    Read,
    RecordOf,
    label_in,
    load,
    read_parts,
    text_in,
)
from tasks.store.steps import Step
from tasks.store.store import Artifact


@dataclass(frozen=True)
class Sentence:
    """Words and their labels, as many of these as of those."""

    words: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class SentenceData:
    """A task's sentences.

    Attributes:
        field: of the sweep file, for messages.
    """

    field: str
    read: Read[Sentence]

    def labels(self, part: str = TRAIN) -> list[str]:
        """The labels that occur in a part, in alphabetical order."""
        return sorted({label for entry in self.read.parts[part] for label in entry.labels})

    @property
    def step(self) -> Step:
        """The sentences as an artifact; the same for every model."""
        return Step(
            name="token_data",
            inputs={"sentences": dict(self.read.identity)},
            produce=self.read.produce,
            label="labelled sentences",
            group="token classification",
        )


def load_sentences(artifact: Artifact) -> dict[str, list[Sentence]]:
    """Part → sentences."""
    return load(artifact, lambda words, labels: Sentence(tuple(words), tuple(labels)))


def resolve(task: TokenTask, where: str) -> SentenceData:
    """Read a task's sentences.

    Raises:
        ConfigurationError: naming file and line; a type that nothing is learned of; no span in
            train or in test.
    """
    read = read_parts(
        task.data, where, lambda learned: _reader(learned, task.labels), lambda entry: entry.words
    )
    data, field = SentenceData(where, read), f"{where}.data.{TRAIN}"
    learned, tested = (_kinds(read.parts[part], task.labels) for part in (TRAIN, TEST))
    for part, kinds in ((TRAIN, learned), (TEST, tested)):
        if not kinds:
            told = f"only the label O in the {len(read.parts[part])} sentences of {part}"
            raise ConfigurationError(f"{where}.data", told, "without a span there is no F1")
    if len(data.labels()) < 2:
        told = f"labels {data.labels()} in the {len(read.parts[TRAIN])} sentences of train"
        raise ConfigurationError(field, told, "words of at least two labels can be told apart")
    if tested - learned:
        told = f"type {min(tested - learned)!r} only in the last quarter of its sentences"
        raise ConfigurationError(
            field, told, "these are tested, and every type is learned: shuffle it, or name a test"
        )
    return data


def _kinds(sentences: Sequence[Sentence], labels: Labels) -> set[str]:
    """The types that occur."""
    found = {label for entry in sentences for label in entry.labels}
    return {parted(label, labels)[1] for label in found} - {""}


def _reader(learned: Sequence[Sentence], labels: Labels) -> RecordOf[Sentence]:
    known = _kinds(learned, labels)

    def sentence_of(record: Mapping[str, Any]) -> Sentence:
        words, told = record.get("tokens"), record.get("labels")
        if not isinstance(words, list) or not words:
            raise TypeError("tokens is a list of at least one word")
        if not isinstance(told, list) or len(told) != len(words):
            has = len(told) if isinstance(told, list) else "none"
            raise TypeError(f"labels is a list of one label a word: of {len(words)}, not {has}")
        sentence = Sentence(
            tuple(text_in(word, f"tokens[{place}]") for place, word in enumerate(words)),
            tuple(label_in(label, f"labels[{place}]") for place, label in enumerate(told)),
        )
        for place, label in enumerate(sentence.labels):
            try:
                kind = parted(label, labels)[1]
            except ValueError as error:
                raise ValueError(f"labels[{place}] {error}") from None
            if kind and known and kind not in known:
                types = ", ".join(sorted(known))
                raise ValueError(
                    f"labels[{place}] {label!r} is of none of the types of train: {types}"
                )
        return sentence

    return sentence_of
