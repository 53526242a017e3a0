"""Span F1, precision, recall and token accuracy, with bootstrap errors over sentences.

Shapes: ``N`` sentences, ``R`` resamples, ``F`` figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasks.measures.token_classification.spans import Labels, spans_of
from tasks.measures.tuning.scores import Counts, resampled, table, with_errors

_FIGURES = ("f1", "precision", "recall", "token_accuracy")


@dataclass(frozen=True)
class Score:
    """The labels of each sentence, as they are and as they were predicted."""

    gold: Sequence[Sequence[str]]
    predicted: Sequence[Sequence[str]]
    labels: Labels

    def figures(self) -> dict[str, Any]:
        """Over all sentences: a span is right where first word, last word and type are."""
        counts_N5 = torch.tensor(
            [self._counts(*pair) for pair in zip(self.gold, self.predicted, strict=True)],
            dtype=torch.float64,
        )
        told_RF = resampled(len(self.gold), lambda drawn_N: _figures(counts_N5[drawn_N].sum(0)))
        return with_errors(_FIGURES, _figures(counts_N5.sum(0)), told_RF)

    def as_csv(self) -> str:
        """One line a type."""
        right, given, asked = Counter(), Counter(), Counter()
        for gold, predicted in zip(self.gold, self.predicted, strict=True):
            wanted, found = spans_of(gold, self.labels), spans_of(predicted, self.labels)
            for counter, spans in ((right, wanted & found), (given, found), (asked, wanted)):
                counter.update(kind for *_, kind in spans)
        return table(
            {
                kind: Counts(right[kind], given[kind] - right[kind], asked[kind] - right[kind])
                for kind in sorted(given | asked)
            }
        )

    def _counts(self, gold: Sequence[str], predicted: Sequence[str]) -> tuple[int, ...]:
        """Right, given and asked spans; right words and words."""
        wanted, found = spans_of(gold, self.labels), spans_of(predicted, self.labels)
        words = sum(a == b for a, b in zip(gold, predicted, strict=True))
        return len(wanted & found), len(found), len(wanted), words, len(gold)


def _figures(counts_5: Tensor) -> Tensor:
    right, given, asked, words, all_words = counts_5
    f1 = 2 * right / (given + asked).clamp_min(1)
    precision, recall = right / given.clamp_min(1), right / asked.clamp_min(1)
    return torch.stack((f1, precision, recall, words / all_words))
