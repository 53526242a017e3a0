"""Text classification as a task that models are tuned for: an encoder is read at the first token of
a text, a decoder at the last one, a column is a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from tasks.data.windows import suffix_tokens
from tasks.measures.classification.records import LabelledData, LabelledText
from tasks.measures.classification.scoring import Score
from tasks.measures.classification.settings import ClassificationTask
from tasks.measures.tuning.batches import Encoded, Reading, label_counts
from tasks.measures.tuning.objectives import OneLabel
from tasks.measures.tuning.records import TEST, counts_of, load
from tasks.measures.tuning.task import Task
from tasks.store.steps import Facts
from tasks.store.store import Artifact

_TABLE = "classes.csv"


class TextClassificationTask(Task):
    """Whole texts, a column a class."""

    kind: ClassVar[str] = "label"
    words: ClassVar[str] = "text classification"
    version: ClassVar[int] = 2
    judged: ClassVar[tuple[str, ...]] = (TEST,)

    def __init__(self, options: ClassificationTask, data: LabelledData) -> None:
        self.options, self.data, self.labels = options, data.step, data.labels
        self.columns = len(data.labels)
        self.objective = OneLabel()
        self.learning, self.scoring = {}, {}
        self._places = {label: place for place, label in enumerate(data.labels)}

    def read(self, data: Artifact) -> Mapping[str, Sequence[LabelledText]]:
        return load(data, LabelledText)

    def encode(
        self, records: Sequence[LabelledText], tokenizer: Any, longest: int
    ) -> list[Encoded]:
        after, columns = suffix_tokens(tokenizer), range(self.columns)
        encoded = []
        for place, entry in enumerate(records):
            ids = tokenizer(entry.text, verbose=False)["input_ids"]
            cut = len(ids) > longest
            if cut:
                ids = [*ids[: longest - len(after)], *after]
            label = frozenset({self._places[entry.label]})
            reading = Reading(0, len(ids) - 1, columns, label)
            encoded.append(Encoded(tuple(ids), (reading,), place, cut))
        return encoded

    def learned(self, encoded: Sequence[Encoded]) -> Facts:
        counts = label_counts(encoded)
        return {"texts": {label: counts[place] for label, place in self._places.items()}}

    def score(
        self,
        records: Mapping[str, Sequence[LabelledText]],
        encoded: Mapping[str, Sequence[Encoded]],
        logits: Mapping[str, Tensor],
        out: Path,
    ) -> Facts:
        del encoded
        gold_N = torch.tensor([self._places[entry.label] for entry in records[TEST]])
        score = Score(gold_N, logits[TEST].argmax(1), self.labels)
        (out / _TABLE).write_text(score.as_csv(), encoding="utf-8")
        counts = counts_of(records, lambda entry: entry.text)
        return {**score.figures(), "texts": counts, "classes": len(self.labels)}
