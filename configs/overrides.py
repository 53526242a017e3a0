"""``--set field=value``: one value put into a sweep's plain data."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from configs.errors import ConfigurationError
from configs.paths import absolute
from configs.safe_yaml import DEEPEST, parse


def apply(raw: dict[str, Any], setting: str, base: Path | None) -> dict[str, Any]:
    """The data with one field changed.

    Args:
        setting: ``dotted.field=value``; the value is YAML, so lists work.
        base: what relative paths in the value are relative to; None leaves them as they are.

    Raises:
        ConfigurationError: for what is no setting, or names a list's entry that is not there.
    """
    field, separator, text = setting.partition("=")
    keys = [key for key in re.split(r"\.|\[([0-9]+)\]", field.strip()) if key]
    if not separator or not keys or len(keys) > DEEPEST:
        raise ConfigurationError("--set", setting, "write field=value, such as seeds=[0,1]")
    value: Any = parse(text, f"--set {field}") if text.strip() else ""

    def put(key: str, place: str) -> Any:
        return value if base is None else absolute(value, base, key=key, field=place)

    if len(keys) == 1:  # no defaults are asked for, and the schema's import takes seconds
        return _merge(raw, put, keys, field, None)
    from configs.schema import SweepConfig

    return _merge(raw, put, keys, field, SweepConfig)


def _merge(
    target: Any,
    put: Callable[[str, str], Any],
    keys: list[str],
    field: str,
    schema: type[BaseModel] | None,
    named: str = "",
    place: str = "",
) -> Any:
    """``target`` with one value put in at ``keys``.

    Args:
        put: (key, field) → the value, as it is at this field.
        named, place: key and field of ``target`` itself, entries of lists in brackets.
    """
    key, rest = keys[0], keys[1:]
    if isinstance(target, list):
        if not re.fullmatch(r"[0-9]{1,6}", key) or int(key) >= len(target):
            there = f"this list has entries 0 to {len(target) - 1}"
            empty = "this list is empty: set the whole list, as field=[value]"
            raise ConfigurationError(f"--set {field}", key, there if target else empty)
        result: Any = list(target)
        index: Any = int(key)
        current = result[index]
        place = f"{place}[{key}]"
    else:
        result = dict(target) if isinstance(target, dict) else {}
        index = key
        current = result.get(key, _default(schema, key) if rest else None)
        named, place = key, f"{place}.{key}".lstrip(".")
    if rest:
        inner = _model_of(schema, key)
        result[index] = _merge(current, put, rest, field, inner, named, place)
    else:
        result[index] = put(named, place)
    return result


def _default(schema: type[BaseModel] | None, key: str) -> Any:
    """The default of a field as plain data, so that --set can change one entry of it."""
    entry = schema.model_fields.get(key) if schema else None
    if entry is None or entry.is_required():
        return {}
    default = entry.default
    if isinstance(default, BaseModel):
        return {}
    if isinstance(default, tuple):
        return [
            item.model_dump(mode="json") if isinstance(item, BaseModel) else item
            for item in default
        ]
    return {}


def _model_of(schema: type[BaseModel] | None, key: str) -> type[BaseModel] | None:
    entry = schema.model_fields.get(key) if schema else None
    default = entry.default if entry else None
    return type(default) if isinstance(default, BaseModel) else None
