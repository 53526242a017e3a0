"""Accuracy, macro F1, and their bootstrap errors over texts.

Shapes: ``N`` texts, ``C`` classes, ``R`` resamples.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_RESAMPLES = 1_000
_QUANTILES = (0.025, 0.975)


@dataclass(frozen=True)
class Score:
    """What was predicted of each text, and what is right."""

    gold_N: Tensor
    chosen_N: Tensor
    labels: Sequence[str]

    def confusion_CC(self) -> Tensor:
        """Texts of each class (rows) by what was predicted (columns)."""
        return _confusion(self.gold_N[None], self.chosen_N[None], len(self.labels))[0]

    def figures(self) -> dict[str, Any]:
        """Accuracy and macro F1, each with its standard error and the bootstrap's 95 %."""
        count = len(self.gold_N)
        generator = torch.Generator().manual_seed(0)
        drawn_RN = torch.randint(count, (_RESAMPLES, count), generator=generator)
        gold_RN, chosen_RN = self.gold_N[drawn_RN], self.chosen_N[drawn_RN]
        confusion_RCC = _confusion(gold_RN, chosen_RN, len(self.labels))
        whole = self.confusion_CC()[None]
        told: dict[str, Any] = {}
        for name, of in (("accuracy", _accuracy), ("macro_f1", _macro_f1)):
            resampled_R = of(confusion_RCC)
            ends = torch.quantile(resampled_R, torch.tensor(_QUANTILES, dtype=torch.float64))
            told[name] = float(of(whole)[0])
            told[f"{name}_stderr"] = float(resampled_R.std())
            told[f"{name}_interval"] = ends.tolist()
        told["largest_class"] = float(whole[0].sum(1).max()) / count
        return told

    def as_csv(self) -> str:
        """One line a class."""
        out = io.StringIO()
        lines = csv.writer(out, lineterminator="\n")
        lines.writerow(("label", "N", "TP", "FP", "FN", "P", "R", "F1"))
        confusion_CC = self.confusion_CC()
        for place, label in enumerate(self.labels):
            tp = int(confusion_CC[place, place])
            fp = int(confusion_CC[:, place].sum()) - tp
            fn = int(confusion_CC[place].sum()) - tp
            shares = (tp / max(1, tp + fp), tp / max(1, tp + fn), 2 * tp / max(1, 2 * tp + fp + fn))
            lines.writerow((label, tp + fn, tp, fp, fn, *shares))
        return out.getvalue()


def _confusion(gold_RN: Tensor, chosen_RN: Tensor, classes: int) -> Tensor:
    pairs_RN = gold_RN * classes + chosen_RN
    counts_RP = torch.zeros(len(pairs_RN), classes * classes, dtype=torch.float64)
    ones_RN = torch.ones(pairs_RN.shape, dtype=torch.float64)
    return counts_RP.scatter_add_(1, pairs_RN, ones_RN).view(-1, classes, classes)


def _accuracy(confusion_RCC: Tensor) -> Tensor:
    right_R = confusion_RCC.diagonal(dim1=1, dim2=2).sum(1)
    return right_R / confusion_RCC.sum((1, 2))


def _macro_f1(confusion_RCC: Tensor) -> Tensor:
    """Mean over the classes that occur or are predicted."""
    asked_RC = confusion_RCC.sum(1) + confusion_RCC.sum(2)
    f1_RC = 2 * confusion_RCC.diagonal(dim1=1, dim2=2) / asked_RC.clamp_min(1)
    return f1_RC.sum(1) / (asked_RC > 0).sum(1)
