"""Reads labelled texts: JSON lines with ``text`` and ``label``, and ``id`` where there is one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError
from tasks.measures.classification.settings import ClassificationTask
from tasks.models.sources.digests import file_digest
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

TRAIN, TEST = "train", "test"
_FILE = "texts.json"
_TESTED = 0.25
"""Of the distinct texts of a file that holds all, the last."""


@dataclass(frozen=True)
class LabelledText:
    """One text and its class."""

    text: str
    label: str


@dataclass(frozen=True)
class LabelledData:
    """A task's texts.

    Attributes:
        field: of the sweep file, for messages.
        identity: what determines them; no paths.
        parts: ``train`` and ``test``.
    """

    field: str
    identity: Mapping[str, Any]
    parts: Mapping[str, Sequence[LabelledText]]

    @property
    def labels(self) -> list[str]:
        """The classes, in alphabetical order."""
        return sorted({entry.label for entry in self.parts[TRAIN]})

    @property
    def step(self) -> Step:
        """The texts as an artifact; the same for every model."""
        return Step(
            name="label_data",
            inputs={"texts": dict(self.identity)},
            produce=self._produce,
            label="labelled texts",
            group="text classification",
        )

    def _produce(self, work: Work) -> Facts:
        told = {part: [asdict(entry) for entry in entries] for part, entries in self.parts.items()}
        (work.out / _FILE).write_text(json.dumps(told), encoding="utf-8")
        return {part: len(entries) for part, entries in told.items()}


def load_texts(artifact: Artifact) -> dict[str, list[LabelledText]]:
    """Part → texts."""
    found = json.loads((artifact.path / _FILE).read_text(encoding="utf-8"))
    return {part: [LabelledText(**entry) for entry in entries] for part, entries in found.items()}


def resolve(task: ClassificationTask, where: str) -> LabelledData:
    """Read a task's texts.

    Raises:
        ConfigurationError: naming file and line.
    """
    given = {TRAIN: task.data.train, TEST: task.data.test}
    files = {part: Path(name).expanduser() for part, name in given.items() if name is not None}
    read: dict[str, list[LabelledText]] = {}
    for part, path in files.items():
        known = {entry.label for entry in read.get(TRAIN, ())}
        read[part] = read_texts(path, f"{where}.data.{part}", known)
    if TEST not in read:
        read = split(read[TRAIN])
    data = LabelledData(
        where, {part: file_digest(path, None) for part, path in files.items()}, read
    )
    field = f"{where}.data.{TRAIN}"
    if len(data.labels) < 2:
        told = f"labels {data.labels} in the {len(read[TRAIN])} texts that are learned from"
        raise ConfigurationError(field, told, "texts of at least two classes can be told apart")
    if not read[TEST]:
        raise ConfigurationError(f"{where}.data", given[TEST] or given[TRAIN], "no text is tested")
    strange = {entry.label for entry in read[TEST]} - set(data.labels)
    if strange:
        told = f"label {min(strange)!r} only in the last quarter of its texts, which is tested"
        raise ConfigurationError(
            field, told, "every label is learned: shuffle the file, or name a test"
        )
    return data


def read_texts(path: Path, field: str, known: set[str]) -> list[LabelledText]:
    """The texts of a file, in order.

    Args:
        known: labels that may occur; empty: any.

    Raises:
        ConfigurationError: naming file and line: no JSON, no text or label, a label that nothing
            was learned of, or two lines of one id.
    """
    texts: list[LabelledText] = []
    seen: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError as error:
        raise ConfigurationError(
            field, str(path), f"it cannot be read: {error.strerror}"
        ) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        place = f"{path.name}:{number}"
        try:
            entry, name = _entry(json.loads(line), known, seen)
        except (ValueError, TypeError, RecursionError) as error:
            raise ConfigurationError(field, place, str(error)) from error
        seen[name] = number
        texts.append(entry)
    return texts


def _entry(record: Any, known: set[str], seen: Mapping[str, int]) -> tuple[LabelledText, str]:
    """A line's text, and its id; empty where it has none.

    Raises:
        TypeError, ValueError: with what is wrong.
    """
    if not isinstance(record, dict):
        raise TypeError("a line is a JSON object with text and label")
    text, label = record.get("text"), record.get("label")
    if not isinstance(text, str) or not text.strip():
        raise TypeError("text is a string that is not empty")
    if not _whole(text):
        raise TypeError("text is a string of whole characters")
    if isinstance(label, bool) or not isinstance(label, str | int) or label == "":
        raise TypeError("label is a string or a whole number")
    if not _whole(str(label)):
        raise TypeError("label is a string of whole characters")
    if known and str(label) not in known:
        told = f"label {str(label)!r} is none of those of train: {', '.join(sorted(known))}"
        raise ValueError(told)
    name = "" if record.get("id") is None else str(record["id"])
    if name and name in seen:
        raise ValueError(f"id {name} is labelled in line {seen[name]} too")
    return LabelledText(text, str(label)), name


def _whole(text: str) -> bool:
    """Whether it holds no half of a character, which no file in UTF-8 takes."""
    return not any("\ud800" <= sign <= "\udfff" for sign in text)


def split(texts: Sequence[LabelledText]) -> dict[str, list[LabelledText]]:
    """Train and test: the first three quarters of the distinct texts, and the rest, in order."""
    rank = {text: place for place, text in enumerate(dict.fromkeys(t.text for t in texts))}
    begin = round((1 - _TESTED) * len(rank))
    return {
        TRAIN: [entry for entry in texts if rank[entry.text] < begin],
        TEST: [entry for entry in texts if rank[entry.text] >= begin],
    }
