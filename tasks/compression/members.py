"""The same pruning on other calibration texts: an ensemble that tells how sure its answers are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from configs.corpora import Calibration
from tasks.compression.checkpoint import Recipe
from tasks.data.texts import Texts, Windows
from tasks.store.steps import Step

Members = tuple[Step, ...] | str
"""A checkpoint's step each, or why there are none."""


def members_of(
    recipe: Recipe, texts: Texts, calibration: Calibration
) -> Callable[[int, int], Members]:
    """(members, windows of each) → their checkpoints, on disjoint parts of the calibration text.

    The parts follow each other from the start of the text, however the sweep's own windows are
    drawn. Nobody keeps these checkpoints: whoever measures one produces it and drops it.
    """

    def members(count: int, subset: int) -> Members:
        if not recipe.method.uses_calibration:
            return f"{recipe.method.name} looks at no calibration text, so it has no members"
        parts = (_part(texts, calibration, place, subset) for place in range(count))
        return tuple(
            replace(recipe, calibration=part, label=f"{recipe.label} member {place}").steps()[0]
            for place, part in enumerate(parts)
        )

    return members


def _part(texts: Texts, calibration: Calibration, place: int, subset: int) -> Windows:
    length = calibration.sequence_length
    return texts.windows(
        field="calibration",
        name=f"calibration of member {place}",
        corpus=calibration.corpus,
        role="calibration",
        length=length,
        count=subset,
        skip=place * subset * length,
    )
