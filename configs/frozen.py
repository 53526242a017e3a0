"""The base of every part of a sweep file, and checks that several parts share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


class Frozen(BaseModel):
    """Base of all parts of a sweep."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, given: Any, info: ValidationInfo) -> Any:
        kinds = set(leaves(cls.model_fields[str(info.field_name)].annotation))
        if kinds & {int, float} and bool not in kinds and _holds_truth(given):
            raise ValueError("true and false are no numbers")
        return given


class Made(Frozen):
    """Base of parts that ``create_model`` makes, whose fields bring their line of help.

    To look for it in source that no class statement has, pydantic searches all modules: a second.
    """

    model_config = ConfigDict(use_attribute_docstrings=False)


def leaves(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of, at the bottom."""
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for part in inner:
        yield from leaves(part)


def _holds_truth(given: Any) -> bool:
    return isinstance(given, bool) or (
        isinstance(given, list | tuple) and any(isinstance(entry, bool) for entry in given)
    )


SWEEP_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
ALLOWED = {
    SWEEP_NAME: "it takes letters, digits, dot, dash and underscore, at most 64, "
    "a letter or digit first"
}
"""Pattern → what a text that matches it looks like, for messages."""


def matching(pattern: str, allowed: str) -> Any:
    """A field whose text matches a pattern; ``allowed`` says so to who wrote another."""
    ALLOWED[pattern] = allowed
    return Field(pattern=pattern)


def unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A validator: each entry may stand once."""
    repeated = sorted(str(value) for value, count in Counter(values).items() if count > 1)
    if repeated:
        raise ValueError(f"each entry may stand once; repeated: {', '.join(repeated)}")
    return values
