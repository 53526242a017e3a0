"""Accuracy, macro F1, and their bootstrap errors over texts.

Shapes: ``N`` texts, ``C`` classes, ``P`` pairs of them, ``F`` figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tasks.measures.tuning.scores import Counts, resampled, table, with_errors


@dataclass(frozen=True)
class Score:
    """What was predicted of each text, and what is right."""

    gold_N: Tensor
    chosen_N: Tensor
    labels: Sequence[str]

    def confusion_CC(self) -> Tensor:
        """Texts of each class (rows) by what was predicted (columns)."""
        return _confusion(self.gold_N, self.chosen_N, len(self.labels))

    def figures(self) -> dict[str, Any]:
        """Accuracy and macro F1, each with its standard error and the bootstrap's 95 %."""
        count, classes = len(self.gold_N), len(self.labels)
        whole_CC = self.confusion_CC()
        told_RF = resampled(
            count,
            lambda drawn_N: _figures(
                _confusion(self.gold_N[drawn_N], self.chosen_N[drawn_N], classes)
            ),
        )
        return {
            **with_errors(tuple(_FIGURES), _figures(whole_CC), told_RF),
            "largest_class": float(whole_CC.sum(1).max()) / count,
        }

    def as_csv(self) -> str:
        """One line a class."""
        confusion_CC = self.confusion_CC().long()
        found = {}
        for place, label in enumerate(self.labels):
            tp = int(confusion_CC[place, place])
            fp, fn = (int(confusion_CC.sum(axis)[place]) - tp for axis in (0, 1))
            found[label] = Counts(tp, fp, fn)
        return table(found)


def _confusion(gold_N: Tensor, chosen_N: Tensor, classes: int) -> Tensor:
    counts_P = torch.bincount(gold_N * classes + chosen_N, minlength=classes * classes)
    return counts_P.view(classes, classes).double()


def _accuracy(confusion_CC: Tensor) -> Tensor:
    return confusion_CC.diagonal().sum() / confusion_CC.sum()


def _macro_f1(confusion_CC: Tensor) -> Tensor:
    """Mean over the classes that occur or are predicted."""
    asked_C = confusion_CC.sum(0) + confusion_CC.sum(1)
    f1_C = 2 * confusion_CC.diagonal() / asked_C.clamp_min(1)
    return f1_C.sum() / (asked_C > 0).sum()


_FIGURES = {"accuracy": _accuracy, "macro_f1": _macro_f1}


def _figures(confusion_CC: Tensor) -> Tensor:
    return torch.stack([of(confusion_CC) for of in _FIGURES.values()])
