"""What a sweep says of uncertainty."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from configs.frozen import Frozen
from tasks.measures.uncertainty.lidu import Form

FIELD = "evaluation.uncertainty"
_SAMPLES = _SUBSET = 8


class Asked(Frozen):
    """An ensemble of pruned models, and what is read from it."""

    source: Literal["calibration", "masks", "seeds"] = "calibration"
    """Members: pruned on other calibration text, masks drawn (policy_gradient), sweep's seeds."""
    samples: Annotated[int, Field(ge=2, le=64)] | None = None
    """How many members; empty: 8, or of source seeds all that the sweep has."""
    subset: Annotated[int, Field(ge=1)] | None = None
    """Windows of each member's part of the calibration text; empty: 8. Source calibration only."""
    items: Literal["options", "tokens"] = "options"
    """options: of evaluation.zero_shot's questions; tokens: next tokens of perplexity's texts."""
    form: Form = "later"  # type: ignore[valid-type]
    """Which pairs of a list count: later, later_sum, adjacent or boundary."""
    k: Annotated[int, Field(ge=1, le=100)] | None = None
    """Positions of a list that count; empty: 1 of options, 10 of tokens."""

    @model_validator(mode="after")
    def _parts_are_calibration_s(self) -> Self:
        if self.subset is not None and self.source != "calibration":
            raise ValueError(
                f"subset {self.subset} needs source: calibration; members of source: {self.source} "
                "are pruned on no text of their own, so leave it out"
            )
        return self

    @property
    def members(self) -> int:
        """``samples``, or what stands for it where the sweep does not tell."""
        return self.samples or _SAMPLES

    @property
    def windows(self) -> int:
        """``subset``, or what stands for it."""
        return self.subset or _SUBSET

    @property
    def positions(self) -> int:
        """``k``, or what stands for it."""
        return self.k or (1 if self.items == "options" else 10)


class UncertaintySettings(Frozen):
    """Whether pruned models are asked how sure they are."""

    uncertainty: Asked | None = None
    """How sure pruned models are, without labels; costs an evaluation a member."""


class AcrossSettings(Frozen):
    """Nothing of its own: it is told where uncertainty is."""
