"""Local text and JSON-lines files as a corpus."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError

_UTF8_NEEDED = "text files must be UTF-8"
_WIDE_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_BINARY_SAMPLE = 8192


def read_files(
    files: Sequence[str], *, column: str, base: Path, field: str
) -> tuple[str, list[str], dict[str, Any]]:
    """Description, documents and facts of ``files``, in the order given.

    A text file is one document; a ``.jsonl`` file holds one document a line. Line ends are read as
    Python's text mode reads them, CRLF and CR as LF: a copy of a data set that went through another
    system has the same digest and the same perplexity.

    Args:
        column: the field of a JSON line that holds its text.
        base: what relative paths are relative to.
        field: dotted path of the corpus, for messages.

    Raises:
        ConfigurationError: names the file, and the line or byte where it cannot be read.
    """
    documents: list[str] = []
    names: list[str] = []
    for index, given in enumerate(files):
        where = f"{field}.files[{index}]"
        path = base / Path(given).expanduser()
        text = _decoded(_bytes_of(path, where, given), where, given)
        names.append(path.name)
        if path.suffix.lower() == ".jsonl":
            documents += _lines(text, column, where, given, f"{field}.column")
        else:
            documents.append(text)
    return ", ".join(names), documents, {"files": names}


def _bytes_of(path: Path, where: str, given: str) -> bytes:
    if path.is_dir():
        raise ConfigurationError(where, given, f"{path} is a folder; name the files in it")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigurationError(where, given, f"there is no file {path}") from error
    except OSError as error:
        raise ConfigurationError(
            where, given, f"{path} cannot be read: {error.strerror}"
        ) from error
    if not content.strip():
        raise ConfigurationError(where, given, "the file is empty")
    return content


def _decoded(content: bytes, where: str, given: str) -> str:
    for mark, name in _WIDE_MARKS.items():
        if content.startswith(mark):
            raise ConfigurationError(where, given, f"{_UTF8_NEEDED}, and this is {name}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Decoding counts from after the byte order mark; the user's editor counts from the start.
        offset = error.start + (len(content) - len(error.object))
        allowed = f"{_UTF8_NEEDED}; byte {content[offset]:#04x} at offset {offset:,} is not"
        hint = "" if b"\0" in content[:_BINARY_SAMPLE] else "Convert it (iconv -t UTF-8)"
        hint = hint or "It looks like a binary or compressed file"
        raise ConfigurationError(where, given, allowed, hint) from error
    if "\0" in text:
        offset = content.index(b"\0")
        allowed = f"{_UTF8_NEEDED} without NUL; offset {offset:,} holds one, so this is binary"
        raise ConfigurationError(where, given, allowed)
    if not text.strip():
        raise ConfigurationError(where, given, "the file is empty")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lines(text: str, column: str, where: str, given: str, column_field: str) -> Iterator[str]:
    # Not splitlines(): JSON strings may hold line separators other than \n.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigurationError(
                where, given, f"each line must hold one JSON object; line {number}: {error}"
            ) from error
        if not isinstance(row, dict):
            raise ConfigurationError(
                where,
                given,
                f"each line must hold one JSON object; line {number} holds another value",
            )
        if column not in row:
            present = ", ".join(map(str, row)) or "none"
            raise ConfigurationError(
                column_field, column, f"line {number} of {given} has the fields: {present}"
            )
        yield checked_text(row[column], f"line {number} of {given}", column_field, column)


def checked_text(value: Any, place: str, field: str, column: str) -> str:
    """``value`` if it is text that UTF-8 can hold.

    Raises:
        ConfigurationError: with ``place`` and the type that came.
    """
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        raise ConfigurationError(field, column, f"the field must hold text; {place} holds {kind}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        allowed = f"{place} holds half of a surrogate pair, which is no character"
        raise ConfigurationError(field, column, allowed) from error
    return value
