"""The fields of a sweep's ``evaluation.token_classification``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from configs.frozen import Frozen, unique
from tasks.measures.tuning.settings import LabelledFiles, TaskName, Tuning


class TokenTask(Tuning):
    """One labelling of words that every model is tuned for."""

    name: TaskName = "entities"
    """Names the results' columns: span_f1/<name>."""
    data: LabelledFiles
    """Labelled sentences: JSON lines with tokens and labels."""
    labels: Literal["spans", "words"] = "spans"
    """spans: O, B-TYPE, I-TYPE (BIOES, BILOU too); words: each but O is one word's own."""


def _unique_names(entries: tuple[TokenTask, ...]) -> tuple[TokenTask, ...]:
    unique(tuple(entry.name for entry in entries))
    return entries


class TokenClassificationSettings(Frozen):
    """Which labellings of words models are tuned for and scored on."""

    token_classification: Annotated[tuple[TokenTask, ...], AfterValidator(_unique_names)] = ()
    """Labellings of words, such as entities: each model is fine-tuned and scored by span F1."""
