"""Local files as a corpus: text, JSON lines, JSON arrays, CSV, Parquet, packed or not."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError
from tasks.data.documents import Document
from tasks.data.formats import PARQUET, TEXT, Source, rows_of

_UTF8_NEEDED = "text files must be UTF-8"
_WIDE_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_BINARY_SAMPLE = 8192
_PARQUET_MARK = b"PAR1"


def read_files(
    files: Sequence[str], *, column: str, loss: str, base: Path, field: str
) -> tuple[str, list[Document], dict[str, Any]]:
    """Description, documents and facts of ``files``, in the order given.

    A file is read as what it holds, whatever it is called: a text file is one document; JSON lines,
    a JSON array, CSV with a header and Parquet hold one a row. Line ends are read as Python's text
    mode reads them, CRLF and CR as LF: a copy of a data set that went through another system has
    the same digest and the same perplexity.

    Args:
        column, loss: see :class:`configs.corpora.Text`.
        base: what relative paths are relative to.
        field: dotted path of the corpus, for messages.

    Raises:
        ConfigurationError: names the file, and the line or byte where it cannot be read.
    """
    documents: list[Document] = []
    names: list[str] = []
    formats: list[str] = []
    rows: list[int] = []
    for index, given in enumerate(files):
        where = f"{field}.files[{index}]"
        path = base / Path(given).expanduser()
        packing, content = _unpacked(_bytes_of(path, where, given), where, given)
        plain = path.with_suffix("") if packing else path
        source = Source(given, where, field, column, loss, plain.suffix.lower())
        if content.startswith(_PARQUET_MARK):
            form, found = PARQUET, source.parquet(content)
        else:
            form, found = rows_of(_text_of(content, where, given), source)
        documents += found
        rows.append(len(found))
        names.append(path.name)
        formats.append(f"{form}, {packing}" if packing else form)
    read_as = zip(names, formats, strict=True)
    words = [name if form == TEXT else f"{name} ({form})" for name, form in read_as]
    return ", ".join(words), documents, {"files": names, "formats": formats, "rows": rows}


def _bytes_of(path: Path, where: str, given: str) -> bytes:
    if path.is_dir():
        raise ConfigurationError(where, given, f"{path} is a folder; name the files in it")
    try:
        if path.exists() and not path.is_file():  # a device never ends, a pipe never begins
            allowed = f"{path} is a device, a pipe or a socket; name a file"
            raise ConfigurationError(where, given, allowed)
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


def _zstd(content: bytes) -> bytes:
    import pyarrow

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(content), "zstd") as stream:
        return stream.read()


def _gzip(content: bytes) -> bytes:
    import gzip

    return gzip.decompress(content)


_PACKINGS: dict[bytes, tuple[str, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": ("gzip", _gzip),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
}
"""How a packed file begins → its name, and what unpacks it."""


def _unpacked(content: bytes, where: str, given: str) -> tuple[str, bytes]:
    """How the file was packed, empty where it was not, and what is inside."""
    for mark, (name, unpack) in _PACKINGS.items():
        if content.startswith(mark):
            try:
                inside = unpack(content)
            except (OSError, EOFError, ValueError, zlib.error) as error:
                allowed = f"the file begins as {name} and cannot be unpacked: {error}"
                raise ConfigurationError(where, given, allowed) from error
            if not inside.strip():
                raise ConfigurationError(where, given, "the file is empty")
            return name, inside
    return "", content


def _text_of(content: bytes, where: str, given: str) -> str:
    text = decoded(content, where, given)
    if not text.strip():
        raise ConfigurationError(where, given, "the file is empty")
    return text


def decoded(content: bytes, where: str, given: str) -> str:
    """UTF-8 text, with or without a byte order mark; line ends as LF.

    Raises:
        ConfigurationError: naming the first byte that is none.
    """
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
    return text.replace("\r\n", "\n").replace("\r", "\n")
