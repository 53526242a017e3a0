"""The fields of a sweep's ``evaluation.text_classification``."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from configs.frozen import Frozen, unique
from tasks.measures.tuning.settings import LabelledFiles, TaskName, Tuning


class ClassificationTask(Tuning):
    """One classification of texts that every model is tuned for."""

    name: TaskName = "texts"
    """Names the results' columns: accuracy/<name>."""
    data: LabelledFiles
    """Labelled texts: JSON lines with text and label."""


def _unique_names(entries: tuple[ClassificationTask, ...]) -> tuple[ClassificationTask, ...]:
    unique(tuple(entry.name for entry in entries))
    return entries


class ClassificationSettings(Frozen):
    """Which classifications of texts models are tuned for and scored on."""

    text_classification: Annotated[
        tuple[ClassificationTask, ...], AfterValidator(_unique_names)
    ] = ()
    """Classifications of texts: each model is fine-tuned and scored by accuracy."""
