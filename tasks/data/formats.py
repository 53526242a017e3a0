"""What a file's text holds: prose or rows, told by its content; a suffix decides where it cannot.

A C4 shard that was unpacked is called ``.json`` and holds JSON lines; read as prose, its keys,
quotes and addresses would be calibrated and measured on.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from configs.errors import ConfigurationError
from tasks.data.documents import Document, checked_document, document_of, no_completion

TEXT, LINES, ARRAY, TABLE, PARQUET = "text", "JSON lines", "JSON array", "CSV", "Parquet"
_LINES_SUFFIXES = (".jsonl", ".ndjson", ".jsonlines")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Source:
    """One file, for its rows and for messages.

    Attributes:
        given, where: as the sweep names it, and the field that does.
        corpus_field: dotted path of the corpus.
        column, loss: see :class:`configs.corpora.Text`.
        suffix: of its name, packing aside, in lower case.
    """

    given: str
    where: str
    corpus_field: str
    column: str
    loss: str
    suffix: str

    def wrong(self, allowed: str) -> ConfigurationError:
        """The error that names this file."""
        return ConfigurationError(self.where, self.given, allowed)

    def document(self, row: Mapping[str, Any], place: str) -> Document:
        """A row's text, or its conversation."""
        return document_of(row, place, field=self.corpus_field, column=self.column, loss=self.loss)

    def prose(self, text: str, place: str) -> Document:
        """Text that is no row."""
        if self.loss == "completion":
            raise no_completion(self.corpus_field, f"{place} is text without any")
        found = checked_document(text, place, f"{self.corpus_field}.column", self.column)
        assert isinstance(found, str)
        return found

    def parquet(self, content: bytes) -> list[Document]:
        """The rows of a Parquet file."""
        import pyarrow
        from pyarrow import parquet

        try:
            rows = parquet.read_table(io.BytesIO(content)).to_pylist()
        except (pyarrow.ArrowException, OSError) as error:
            raise self.wrong(f"the file begins as Parquet and cannot be read: {error}") from error
        return [self.document(row, f"row {n} of {self.given}") for n, row in enumerate(rows, 1)]


def rows_of(text: str, source: Source) -> tuple[str, list[Document]]:
    """The format of a file's text, and its documents.

    Raises:
        ConfigurationError: it is rows and one of them cannot be read.
    """
    start = text.lstrip()[:1]
    if source.suffix in _LINES_SUFFIXES or (start == "{" and _is_object(_first_line(text))):
        return LINES, list(_lines(text, source))
    if start in ("[", "{") and (found := _json(text, source)) is not None:
        return ARRAY, list(_array(found, source))
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))  # a field may be a document
    separator = _SEPARATORS.get(source.suffix) or _separator(text, source.column)
    if separator:
        return TABLE, list(_table(text, separator, source))
    return TEXT, [source.prose(text, source.given)]


def _first_line(text: str) -> str:
    return text.lstrip().partition("\n")[0]


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _lines(text: str, source: Source) -> Iterator[Document]:
    # Not splitlines(): JSON strings may hold line separators other than \n.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise source.wrong(
                f"each line must hold one JSON object; line {number}: {error}"
            ) from error
        if not isinstance(row, dict):
            raise source.wrong(
                f"each line must hold one JSON object; line {number} holds another value"
            )
        yield source.document(row, f"line {number} of {source.given}")


def _json(text: str, source: Source) -> Any:
    """The whole text as one JSON value; None where it is prose that begins with a bracket."""
    try:
        return json.loads(text)
    except ValueError as error:
        if source.suffix == ".json":
            allowed = f"a .json file must hold a JSON array of objects, or JSON lines: {error}"
            raise source.wrong(allowed) from error
        return None


def _array(value: Any, source: Source) -> Iterator[Document]:
    rows = [value] if isinstance(value, dict) else value
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict):
            yield source.document(row, f"row {number} of {source.given}")
        elif isinstance(row, str):
            yield source.prose(row, f"row {number} of {source.given}")
        else:
            raise source.wrong(f"a JSON array must hold objects or texts; row {number} is neither")


def _separator(text: str, column: str) -> str | None:
    """What separates fields, if the first line is a header with ``column`` and all rows fit it."""
    header = _first_line(text)
    for separator in _SEPARATORS.values():
        try:
            names = next(csv.reader([header], delimiter=separator, strict=True), [])
            # A sentence has blanks after its commas.
            if column not in names or len(names) < 2 or names != [n.strip() for n in names]:
                continue
            rows = list(csv.reader(io.StringIO(text), delimiter=separator, strict=True))
        except csv.Error:
            continue
        if len(rows) > 1 and all(len(row) in (0, len(names)) for row in rows):
            return separator
    return None


def _table(text: str, separator: str, source: Source) -> Iterator[Document]:
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    header: list[str] = []
    try:
        for row in reader:
            if not header:
                header = row
            elif row and len(row) != len(header):
                raise source.wrong(
                    f"each row must have the {len(header)} fields of the header; "
                    f"line {reader.line_num} has {len(row)}"
                )
            elif row:
                fields = dict(zip(header, row, strict=True))
                yield source.document(fields, f"line {reader.line_num} of {source.given}")
    except csv.Error as error:
        raise source.wrong(f"line {reader.line_num} is no CSV: {error}") from error
    if source.column not in header:
        source.document(dict.fromkeys(header, "-"), f"the header of {source.given}")
