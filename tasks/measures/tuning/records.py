"""Reads labelled records: JSON lines, ``id`` where there is one, split where there is no test."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from configs.errors import ConfigurationError
from tasks.data.files import decoded
from tasks.measures.tuning.settings import LabelledFiles
from tasks.models.sources.digests import file_digest
from tasks.store.steps import Facts, Work
from tasks.store.store import Artifact

TRAIN, TEST = "train", "test"
LEARNED_TOO = f"{TEST} whose text {TRAIN} holds too"
_FILE = "texts.json"
_TESTED = 0.25
"""Of the distinct texts of a file that holds all, the last."""
RecordType = TypeVar("RecordType")
RecordOf = Callable[[Mapping[str, Any]], RecordType]


@dataclass(frozen=True)
class Read(Generic[RecordType]):
    """The records of a task's files.

    Attributes:
        identity: part → what determines its file; no paths.
        parts: ``train`` and ``test``.
    """

    identity: Mapping[str, Any]
    parts: Mapping[str, Sequence[RecordType]]

    def produce(self, work: Work) -> Facts:
        """Write them as an artifact, which :func:`load` reads."""
        told = {part: [asdict(entry) for entry in found] for part, found in self.parts.items()}  # pyright: ignore[reportArgumentType]
        (work.out / _FILE).write_text(json.dumps(told), encoding="utf-8")
        return {part: len(found) for part, found in told.items()}


def load(artifact: Artifact, record_of: Callable[..., RecordType]) -> dict[str, list[RecordType]]:
    """Part → records, from what :meth:`Read.produce` wrote.

    Args:
        record_of: takes a record's fields by their names.
    """
    found = json.loads((artifact.path / _FILE).read_text(encoding="utf-8"))
    return {part: [record_of(**entry) for entry in entries] for part, entries in found.items()}


def read_parts(
    data: LabelledFiles,
    where: str,
    reader: Callable[[Sequence[RecordType]], RecordOf[RecordType]],
    text_of: Callable[[RecordType], Hashable],
) -> Read[RecordType]:
    """The records to learn from and those that are scored.

    Args:
        where: of the sweep file the task stands, for messages.
        reader: the records that are learned from, none while those are read → from a line's object
            to its record; raises TypeError or ValueError with what is wrong.
        text_of: records of one text come to one side where there is no test.

    Raises:
        ConfigurationError: naming file and line; test is train.
    """
    given = {TRAIN: data.train, TEST: data.test}
    files = {part: Path(name).expanduser() for part, name in given.items() if name is not None}
    read: dict[str, list[RecordType]] = {}
    for part, path in files.items():
        read[part] = read_lines(path, f"{where}.data.{part}", reader(read.get(TRAIN, ())))
    identity = {part: file_digest(path, None) for part, path in files.items()}
    if identity.get(TEST) == identity[TRAIN]:
        allowed = f"it holds what {TRAIN} holds; leave {TEST} away to split {TRAIN}"
        raise ConfigurationError(f"{where}.data.{TEST}", data.test, allowed)
    if TEST not in read:
        read = split(read[TRAIN], text_of)
    if not read[TRAIN]:
        raise ConfigurationError(f"{where}.data.{TRAIN}", data.train, "no text is learned from")
    if not read[TEST]:
        raise ConfigurationError(f"{where}.data", data.test or data.train, "no text is tested")
    return Read(identity, read)


def counts_of(
    parts: Mapping[str, Sequence[RecordType]], text_of: Callable[[RecordType], Hashable]
) -> dict[str, int]:
    """Part → records, and how many of those that are scored were learned from too, if any."""
    learned = {text_of(record) for record in parts[TRAIN]}
    both = sum(text_of(record) in learned for record in parts[TEST])
    counts = {part: len(records) for part, records in parts.items()}
    return counts | ({LEARNED_TOO: both} if both else {})


def read_lines(path: Path, field: str, record_of: RecordOf[RecordType]) -> list[RecordType]:
    """The records of a file, in order; empty lines are none.

    Raises:
        ConfigurationError: a file that is not UTF-8; or naming file and line: no JSON object, what
            ``record_of`` finds wrong, or two lines of one id.
    """
    records: list[RecordType] = []
    seen: dict[str, int] = {}
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            field, str(path), f"it cannot be read: {error.strerror}"
        ) from error
    for number, line in enumerate(decoded(content, field, str(path)).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record, name = _object(line, seen)
            entry = record_of(record)
        except (ValueError, TypeError, RecursionError) as error:
            raise ConfigurationError(field, f"{path.name}:{number}", str(error)) from error
        seen[name] = number
        records.append(entry)
    return records


def _object(line: str, seen: Mapping[str, int]) -> tuple[Mapping[str, Any], str]:
    """A line's record, and its id; empty where it has none."""
    record = json.loads(line)
    if not isinstance(record, dict):
        raise TypeError("a line is a JSON object")
    name = "" if record.get("id") is None else str(record["id"])
    if name and name in seen:
        raise ValueError(f"id {name} is labelled in line {seen[name]} too")
    return record, name


def text_in(value: Any, name: str) -> str:
    """A text of a record.

    Raises:
        TypeError: it is none, or empty, or holds half a character, which no file in UTF-8 takes.
    """
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"{name} is a string that is not empty")
    return _whole(value, name)


def label_in(value: Any, name: str) -> str:
    """A label of a record; a whole number is one too.

    Raises:
        TypeError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise TypeError(f"{name} is a string or a whole number")
    return _whole(str(value), name)


def _whole(text: str, name: str) -> str:
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        raise TypeError(f"{name} is a string of whole characters")
    return text


def split(
    records: Sequence[RecordType], text_of: Callable[[RecordType], Hashable]
) -> dict[str, list[RecordType]]:
    """Train and test: the first three quarters of the distinct texts, and the rest, in order."""
    texts = [text_of(record) for record in records]
    rank = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    begin = round((1 - _TESTED) * len(rank))
    parts: dict[str, list[RecordType]] = {TRAIN: [], TEST: []}
    for record, text in zip(records, texts, strict=True):
        parts[TRAIN if rank[text] < begin else TEST].append(record)
    return parts
