"""What a sweep says of uncertainty."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from configs.frozen import Frozen
from tasks.measures.uncertainty.lidu import Form

FIELD = "evaluation.uncertainty"


class Asked(Frozen):
    """An ensemble of prunings on parts of the calibration text, and what is read from it."""

    samples: Annotated[int, Field(ge=2, le=64)] = 8
    """Members: the same pruning on so many disjoint parts of the calibration text."""
    subset: Annotated[int, Field(ge=1)] = 8
    """Windows of each part, of calibration's sequence_length."""
    items: Literal["options", "tokens"] = "options"
    """options: of evaluation.zero_shot's questions; tokens: next tokens of perplexity's texts."""
    form: Form = "later"  # type: ignore[valid-type]
    """Which pairs of a list count: later, later_sum, adjacent or boundary."""
    k: Annotated[int, Field(ge=1, le=100)] | None = None
    """Positions of a list that count; empty: 1 of options, 10 of tokens."""

    @property
    def positions(self) -> int:
        """``k``, or what stands for it."""
        return self.k or (1 if self.items == "options" else 10)


class UncertaintySettings(Frozen):
    """Whether pruned models are asked how sure they are."""

    uncertainty: Asked | None = None
    """How sure pruned models are, without labels; costs its samples' prunings and evaluations."""


class AcrossSettings(Frozen):
    """Nothing of its own: it is told where uncertainty is."""
