"""The fields of a sweep's ``evaluation.slot_filling``."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from configs.frozen import Frozen, unique
from tasks.measures.tuning.settings import TaskName, Tuning


class SlotData(Frozen):
    """Where annotated tweets come from."""

    source: Literal["generated", "files"] = "generated"
    """generated: templates, seeded and easy by design; files: JSONL as the shared task gives it."""
    tweets: Annotated[int, Field(ge=20, le=5_000)] = 210
    """Generated tweets of all events, shared among train, dev and test as 11 : 4 : 6."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of the generated tweets."""
    train: str | None = None
    """Folder of <event>.jsonl to learn from; without dev and test it is split 60 / 15 / 25."""
    dev: str | None = None
    """Folder of <event>.jsonl by which thresholds are chosen."""
    test: str | None = None
    """Folder of <event>.jsonl that is scored."""

    @model_validator(mode="after")
    def _folders_belong_to_files(self) -> Self:
        named = [name for name in ("train", "dev", "test") if getattr(self, name) is not None]
        if self.source == "generated" and named:
            raise ValueError(f"{named[0]} needs source: files")
        if self.source == "files" and named not in (["train"], ["train", "dev", "test"]):
            raise ValueError("source: files takes train alone, or train, dev and test")
        return self


class SlotTask(Tuning):
    """One slot-filling task that every model is tuned for."""

    name: TaskName = "covid"
    """Names the results' columns: slot_f1/<name>."""
    data: SlotData = SlotData()
    """Annotated tweets."""
    slots: str | None = None
    """A YAML file of your own events, each with a list of its slots; empty: the COVID-19 events."""
    negative_weight: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Of a slot that a candidate does not fill, in the loss."""
    mask_other_events: bool = True
    """Learn the slots of a tweet's own event alone; false: others as negatives, as published."""
    thresholds: Literal["dev"] | Annotated[float, Field(gt=0, lt=1)] = "dev"
    """dev: per slot by F1 on dev; or one for all."""
    typed: Literal["none", "rules"] = "none"
    """rules: take back answers of the wrong type: an age without a number."""


def _unique_names(entries: tuple[SlotTask, ...]) -> tuple[SlotTask, ...]:
    unique(tuple(entry.name for entry in entries))
    return entries


class SlotFillingSettings(Frozen):
    """Which slot-filling tasks models are tuned for and scored on."""

    slot_filling: Annotated[tuple[SlotTask, ...], AfterValidator(_unique_names)] = ()
    """Slot-filling tasks: each model is fine-tuned and scored by F1; encoders and decoders."""
