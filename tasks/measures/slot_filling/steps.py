"""Slot filling as a task that models are tuned for, and its loss.

Shapes: ``R`` candidates, ``S`` columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tasks.measures.slot_filling import answers
from tasks.measures.slot_filling.data import TaskData, load_tweets
from tasks.measures.slot_filling.inputs import TOKENS, encode
from tasks.measures.slot_filling.labels import instances_of
from tasks.measures.slot_filling.records import Tweet
from tasks.measures.slot_filling.schemes import OF_ALL_EVENTS
from tasks.measures.slot_filling.settings import SlotTask
from tasks.measures.tuning.batches import Batch, Encoded, Reading, label_counts
from tasks.measures.tuning.records import counts_of
from tasks.measures.tuning.task import Task
from tasks.store.steps import Facts
from tasks.store.store import Artifact

_TABLE = "slots.csv"


@dataclass(frozen=True, kw_only=True)
class SlotLoss:
    """Binary cross-entropy, its negatives weighted; each column that is asked is a term.

    Attributes:
        mask_other_events: ask the columns of an instance's own event; else, as published, all,
            although nobody annotated a tweet for other events.
    """

    negative_weight: float
    mask_other_events: bool

    def loss(self, logits_RS: Tensor, batch: Batch) -> Tensor:
        labels_RS = batch.labels_RS
        weight_RS = labels_RS + (1 - labels_RS) * self.negative_weight
        asked_RS = batch.asked_RS if self.mask_other_events else torch.ones_like(batch.asked_RS)
        return nn.functional.binary_cross_entropy_with_logits(
            logits_RS, labels_RS, weight=weight_RS * asked_RS, reduction="sum"
        )

    def terms(self, reading: Reading, columns: int) -> int:
        return len(reading.columns) if self.mask_other_events else columns


class SlotFillingTask(Task):
    """Candidates between markers, a column a slot."""

    kind: ClassVar[str] = "slot"
    words: ClassVar[str] = "slot filling"
    version: ClassVar[int] = 4
    judged: ClassVar[tuple[str, ...]] = ("dev", "test")
    repeated: ClassVar[tuple[str, ...]] = ("never_filled",)

    def __init__(self, options: SlotTask, data: TaskData) -> None:
        self.options, self.data = options, data.step
        self._task, self._scheme, self._field = options, data.scheme, data.field
        self.columns = len(data.scheme.columns)
        self.tokens = TOKENS
        self.learning = {
            "negative_weight": options.negative_weight,
            "mask_other_events": options.mask_other_events,
        }
        self.objective = SlotLoss(**self.learning)
        self.scoring = {"thresholds": options.thresholds, "typed": options.typed}

    def read(self, data: Artifact) -> Mapping[str, Sequence[Tweet]]:
        return load_tweets(data, self._scheme)

    def encode(self, records: Sequence[Tweet], tokenizer: Any, longest: int) -> list[Encoded]:
        instances = instances_of(records, self._scheme)
        return encode(records, instances, self._scheme, tokenizer, longest, self._field)

    def learned(self, encoded: Sequence[Encoded]) -> Facts:
        filled = label_counts(encoded)
        return {
            "instances": len(encoded),
            "positives": filled.total(),
            "never_filled": [
                f"{event}/{slot.name}"
                for column, (event, slot) in enumerate(self._scheme.columns)
                if not filled[column]
            ],
        }

    def score(
        self,
        records: Mapping[str, Sequence[Tweet]],
        encoded: Mapping[str, Sequence[Encoded]],
        logits: Mapping[str, Tensor],
        out: Path,
    ) -> Facts:
        del encoded
        scheme, typed = self._scheme, self._task.typed == "rules"
        found = {
            part: answers.Judged(
                records[part], instances_of(records[part], scheme), logits[part].sigmoid()
            )
            for part in self.judged
        }
        thresholds = answers.thresholds_of(found["dev"], scheme, self._task.thresholds)
        score = answers.score(found["test"], scheme, thresholds, typed=typed)
        (out / _TABLE).write_text(answers.as_csv(score, scheme, thresholds), encoding="utf-8")
        return {
            **score.figures(scheme),
            "precision_recall": answers.precision_recall(found["test"], scheme, typed=typed),
            "tweets": counts_of(records, lambda tweet: (tweet.event, tweet.text)),
        }


def columns_of(name: str, facts: Mapping[str, Any]) -> dict[str, float]:
    """A task's columns, from the facts of its score."""
    prefix = f"slot_f1/{name}"
    row = {prefix: facts["f1"], **{f"{prefix}/{part}": facts[part] for part in OF_ALL_EVENTS}}
    return row | {f"{prefix}/{event}": f1 for event, f1 in facts["events"].items()}
