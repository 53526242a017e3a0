"""Sparsity targets: what part of the weights becomes zero.

``0.5`` removes half of the weights of every matrix. ``2:4`` keeps 2 of every 4 consecutive weights
along the input dimension (``keep:group``, NVIDIA's reading; Wanda's code writes the zeros first).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ALLOWED = (
    "a target is a fraction of zeros from 0.0001 to 0.9999, such as 0.5, "
    "or keep:group with 0 < keep < group, such as 2:4"
)


class TargetError(ValueError):
    """A text that is no sparsity target; the message says what is allowed."""


@dataclass(frozen=True)
class Fraction:
    """Unstructured: this fraction of each weight matrix becomes zero."""

    value: float

    def __post_init__(self) -> None:
        if not 1e-4 <= self.value <= 1 - 1e-4:
            raise TargetError(ALLOWED)

    @property
    def sparsity(self) -> float:
        return self.value

    def __str__(self) -> str:
        return f"{self.value:.10g}"


@dataclass(frozen=True)
class SemiStructured:
    """``keep`` of every ``group`` consecutive weights of a row stay."""

    keep: int
    group: int

    def __post_init__(self) -> None:
        if not 0 < self.keep < self.group:
            raise TargetError(ALLOWED)

    @property
    def sparsity(self) -> float:
        return 1.0 - self.keep / self.group

    def __str__(self) -> str:
        return f"{self.keep}:{self.group}"


Target = Fraction | SemiStructured


def parse_target(text: str | float) -> Target:
    """Read ``0.5`` or ``2:4``.

    Raises:
        TargetError: for anything else.
    """
    written = str(text).strip()
    if match := re.fullmatch(r"([0-9]{1,4}):([0-9]{1,4})", written):
        return SemiStructured(int(match[1]), int(match[2]))
    if not re.fullmatch(r"[0-9]{0,4}\.?[0-9]{1,30}([eE]-?[0-9]{1,3})?", written):
        raise TargetError(ALLOWED)
    return Fraction(float(written))
