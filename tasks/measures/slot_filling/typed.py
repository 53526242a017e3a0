"""Rules that take back answers of the wrong type, without a model that tells types."""

from __future__ import annotations

import re
from collections.abc import Mapping

_NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred teen teens teenager toddler infant baby"
).replace(" ", "|")
_AGE = re.compile(rf"\d|\b({_NUMBER_WORDS})\b", re.IGNORECASE)
_WHEN = re.compile(
    r"\b(mon|tues|wednes|thurs|fri|satur|sun)day|\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
    r"|\b(today|tonight|yesterday|tomorrow|now|last|this|next|ago|morning|evening|afternoon|night"
    r"|weekend|week|month|year|day|hour)s?\b|\d",
    re.IGNORECASE,
)
_PURE_NUMBER = re.compile(r"[\d\s.,]+")
_PLACES = ("where", "recent_travel")


def allowed(slot: str, chunk: str, probabilities: Mapping[str, float], named: bool) -> bool:
    """Whether a predicted chunk can be the answer to a slot, by its type.

    Args:
        probabilities: slot → the chunk's probability.
        named: whether the chunk is also predicted as ``name``.
    """
    if slot == "age":
        return bool(_AGE.search(chunk))
    if slot == "when":
        return bool(_WHEN.search(chunk))
    if slot == "name":
        return not _PURE_NUMBER.fullmatch(chunk)
    if slot in _PLACES and named:
        return probabilities[slot] >= probabilities["name"]
    return True
