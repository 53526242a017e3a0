"""What pydantic found wrong, in a user's words: the field, what came, what is allowed."""

from __future__ import annotations

import difflib
import re
from typing import Any

from pydantic import ValidationError

from configs.errors import ConfigurationError
from configs.frozen import ALLOWED, leaves
from configs.schema import SweepConfig, Variant

_NO_NUMBER = ("int_parsing", "int_type", "int_from_float")


def translated(error: ValidationError) -> ConfigurationError:
    """The first problem, with the names of the others."""
    # A misspelt field explains a missing one, so it is told first.
    problems = sorted(
        error.errors(include_url=False), key=lambda problem: problem["type"] != "extra_forbidden"
    )
    first = problems[0]
    field = _dotted(first["loc"]) or "sweep"
    hint = _nearest(first)
    others = [_dotted(p["loc"]) for p in problems[1:] if first["loc"][: len(p["loc"])] != p["loc"]]
    if others:
        hint = f"{hint} Also wrong: {', '.join(dict.fromkeys(others))}".strip()
    given = first["input"] if first["type"] != "missing" else ...
    allowed = _allowed(first)
    named = re.match(r"((?:variants|calibration)\.[^:]+): (.*)", allowed, re.DOTALL)
    if not first["loc"] and named:
        # A validator of the whole sweep names its field itself.
        field, given, allowed = named[1], ..., named[2]
    return ConfigurationError(field, given, allowed, hint)


def _dotted(location: tuple[int | str, ...]) -> str:
    return re.sub(r"\.(\d+)", r"[\1]", ".".join(str(part) for part in location))


def _allowed(problem: Any) -> str:
    kind, message = problem["type"], problem["msg"]
    if kind == "extra_forbidden":
        known = ", ".join(_siblings(problem["loc"])) or "none"
        return f"there is no such field; the fields here are: {known}"
    told = {
        "string_pattern_mismatch": ALLOWED.get(problem.get("ctx", {}).get("pattern"), message),
        "tuple_type": "it must be a list",
        "dict_type": "it must be a mapping of fields",
        "missing": "this field is required",
        "too_short": "it needs at least one entry",
    }
    if kind in _NO_NUMBER:
        return f"it must be a whole number{_default(problem['loc'])}"
    if kind == "literal_error":
        return f"it must be {problem['ctx']['expected']}"
    message = str(told.get(kind, message))
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _default(location: tuple[int | str, ...]) -> str:
    """A number's default, as the rest of a phrase; empty where there is none."""
    entry = getattr(_schema(location), "model_fields", {}).get(location[-1])
    default = entry.default if entry else None
    return f" (the default is {default})" if isinstance(default, int) else ""


def _siblings(location: tuple[int | str, ...]) -> list[str]:
    return list(getattr(_schema(location), "model_fields", Variant.model_fields))


def _schema(location: tuple[int | str, ...]) -> Any:
    """What holds the field of a location."""
    schema: Any = SweepConfig
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        entry = getattr(schema, "model_fields", {}).get(part)
        if entry is None:
            return Variant  # below a variant's own name
        default = entry.default
        if isinstance(default, tuple) and default:
            default = default[0]
        schema = type(default)
        if not hasattr(schema, "model_fields"):  # a list or part that is empty by default
            kinds = leaves(entry.annotation)
            schema = next((kind for kind in kinds if hasattr(kind, "model_fields")), schema)
    return schema


def _nearest(problem: Any) -> str:
    if problem["type"] == "extra_forbidden":
        wrong, known = str(problem["loc"][-1]), _siblings(problem["loc"])
    elif problem["type"] == "literal_error":
        wrong = str(problem["input"])
        known = re.findall(r"'([^']+)'", problem["ctx"]["expected"])
    else:
        return ""
    near = difflib.get_close_matches(wrong, known, n=1)
    return f"Did you mean {near[0]!r}?" if near else ""
