"""The rows of results: which columns, in which order, and how they are written and read.

A row is a plain dictionary of scalars. ``results.csv`` is for people and spreadsheets,
``results.json`` is what is read back, exactly:

- a list with one object a row, every object with every column, in column order;
- floats with the digits that restore them (``repr``); None is an empty cell and ``null``;
- JSON has no infinity: ``"inf"``, ``"-inf"`` and ``"nan"`` are strings there, and floats again
  after ``read_results``. Text columns keep such strings as text; elsewhere they are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError
from tasks.measures.figures import Figure, Value
from tasks.store.files import write_atomically

Row = dict[str, Value]

CSV_NAME = "results.csv"
JSON_NAME = "results.json"
DENSE = "dense"

_FIRST = ("model", "method", "target", "selection", "seed", "status", "error", "sparsity")
_LAST = (
    "exempt_weights",
    "excluded_weights",
    "prune_seconds",
    "calibration_seconds",
    "learned",
    "departs",
    "training_tokens",
    "evaluate_seconds",
    "parameters",
    "nonzero_parameters",
    "peak_memory_bytes",
    "checkpoint",
    "mlflow_run_id",
    "fingerprint",
)
_ALWAYS = ("model", "method", "target", "seed", "status", "error", "checkpoint", "fingerprint")
"""Every version has written them, and readers count on them."""
_TEXT = frozenset(
    (
        *_FIRST[:4],
        "status",
        "error",
        "learned",
        "departs",
        "checkpoint",
        "mlflow_run_id",
        "fingerprint",
    )
)
"""Elsewhere, text that reads like a number JSON lacks would come back as one, and is refused."""
_NO_JSON_NUMBER = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def columns(rows: Sequence[Mapping[str, Value]], figures: Sequence[Figure] = ()) -> list[str]:
    """All columns: the fixed ones, headline figures among them, then others as they appear."""
    headline = [figure for figure in figures if figure.headline]
    fixed = [
        *_FIRST,
        *(figure.column for figure in headline),
        *(figure.of_dense for figure in headline if figure.relative),
        *_LAST,
    ]
    return list(dict.fromkeys([*fixed, *(key for row in rows for key in row)]))


def write_results(
    rows: Sequence[Mapping[str, Value]], folder: Path, figures: Sequence[Figure] = ()
) -> tuple[Path, Path]:
    """Write ``results.csv`` and ``results.json``; each is replaced whole or not at all.

    Both are rendered before either is written, so a value that cannot be written changes neither.

    Returns:
        The paths of the two files.

    Raises:
        TypeError: for a value that is no scalar.
        ValueError: for the text ``inf``, ``-inf`` or ``nan`` outside the text columns.
    """
    names = columns(rows, figures)
    full = [{name: _checked(name, row.get(name)) for name in names} for row in rows]
    csv_text = "".join(
        ",".join(cells) + "\n"
        for cells in ([_quoted(n) for n in names], *([_cell(r[n]) for n in names] for r in full))
    )
    encodable = [{name: _json_value(value) for name, value in row.items()} for row in full]
    json_text = json.dumps(encodable, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    csv_path, json_path = folder / CSV_NAME, folder / JSON_NAME
    # A lone surrogate, from a file name in an error, has no UTF-8; \udc80 is what JSON calls it.
    write_atomically(csv_path, csv_text.encode("utf-8", "backslashreplace"))
    write_atomically(json_path, json_text.encode("utf-8", "backslashreplace"))
    return csv_path, json_path


def read_results(folder: Path) -> list[Row]:
    """The rows that ``write_results`` wrote to ``folder``; columns a row lacked are None.

    Raises:
        FileNotFoundError: when the folder holds no ``results.json``.
        ConfigurationError: when that file is no list of rows, or a row lacks a column that every
            version has written.
    """
    path = folder / JSON_NAME
    text = path.read_bytes()
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise _damaged(path, "it is no list of rows")
    for number, row in enumerate(found, 1):
        if lacking := [name for name in _ALWAYS if name not in row]:
            raise _damaged(path, f"row {number} has no {', '.join(lacking)}")
        for name, value in row.items():
            if not _is_scalar(value):
                raise _damaged(path, f"{name} of row {number} is no text, number or null")
    return [{name: _restored(name, value) for name, value in row.items()} for row in found]


def _damaged(path: Path, reason: str) -> ConfigurationError:
    allowed = f"it must be as a sweep wrote it, and cannot be read: {reason}"
    hint = "Run the sweep again: the file is written anew, from what the store holds."
    return ConfigurationError(JSON_NAME, path, allowed, hint)


def is_dense(row: Mapping[str, Value]) -> bool:
    """Whether the row is a dense model's, not a cell's."""
    return row.get("method") == DENSE


def is_completed(row: Mapping[str, Value]) -> bool:
    """Whether the row's figures count."""
    return row.get("status") == "completed"


def completed(rows: Sequence[Mapping[str, Value]]) -> set[str]:
    """Fingerprints of the rows that were measured."""
    return {str(row["fingerprint"]) for row in rows if is_completed(row)}


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _checked(name: str, value: Any) -> Value:
    if not _is_scalar(value):
        raise TypeError(f"column {name!r}: {type(value).__name__} is no scalar of a results row")
    if isinstance(value, str) and value in _NO_JSON_NUMBER and name not in _TEXT:
        raise ValueError(f"column {name!r}: the text {value!r} stands for a number; write a float")
    return value


def _json_value(value: Value) -> Value:
    if isinstance(value, float) and not math.isfinite(value):
        return _float_text(value)
    return value


def _restored(name: str, value: Any) -> Any:
    if isinstance(value, str) and name not in _TEXT:
        return _NO_JSON_NUMBER.get(value, value)
    return value


def _float_text(value: float) -> str:
    return float.__repr__(value)


def _cell(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _float_text(value) if isinstance(value, float) else _quoted(str(value))


def _quoted(text: str) -> str:
    # Not the csv module: before Python 3.13 it leaves a lone carriage return unquoted.
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text
