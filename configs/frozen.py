"""The base of every part of a sweep file, and checks that several parts share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Base of all parts of a sweep."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


def unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A validator: each entry may stand once."""
    repeated = sorted({str(value) for value in values if values.count(value) > 1})
    if repeated:
        raise ValueError(f"each entry may stand once; repeated: {', '.join(repeated)}")
    return values
