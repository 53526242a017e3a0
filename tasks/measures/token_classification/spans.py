"""Spans of labelled words, as the CoNLL shared tasks' ``conlleval`` finds them.

It forgives what no scheme allows: an ``I-`` that follows ``O``, or a word of another type, begins a
span. ``E-`` and ``S-`` of BIOES end one, as seqeval reads them; ``L-`` and ``U-`` of BILOU are the
same. A type is what stands behind the first hyphen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

OUTSIDE = "O"
Labels = Literal["spans", "words"]
Span = tuple[int, int, str]
"""First word, one past the last, type."""
_PREFIXES = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S"}


def parted(label: str, labels: Labels) -> tuple[str, str]:
    """Prefix and type of a label; both empty of ``O``.

    Raises:
        ValueError: it is none of the scheme's.
    """
    if label == OUTSIDE:
        return "", ""
    if labels == "words":
        return "S", label
    prefix, _, kind = label.partition("-")
    if prefix not in _PREFIXES or not kind:
        raise ValueError(
            f"{label!r} is neither O nor B-, I-, E- or S- and a type (L- and U- are read too); "
            "labels: words takes those of single words"
        )
    return _PREFIXES[prefix], kind


def spans_of(sequence: Sequence[str], labels: Labels) -> set[Span]:
    """Every span of a sentence's labels."""
    found: set[Span] = set()
    begin, before, open_kind = 0, "", ""
    for place, label in enumerate((*sequence, OUTSIDE)):
        prefix, kind = parted(label, labels)
        # Any of these begins a span, and so ends the one before; O has a type of its own: none.
        if prefix in ("B", "S") or before in ("E", "S") or kind != open_kind:
            if open_kind:
                found.add((begin, place, open_kind))
            begin = place
        before, open_kind = prefix, kind
    return found
