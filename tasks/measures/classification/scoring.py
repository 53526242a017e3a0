"""Accuracy, macro F1, and their bootstrap errors over texts.

Shapes: ``N`` texts, ``C`` classes, ``P`` pairs of them, ``R`` resamples, ``F`` figures.
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
        return _confusion(self.gold_N, self.chosen_N, len(self.labels))

    def figures(self) -> dict[str, Any]:
        """Accuracy and macro F1, each with its standard error and the bootstrap's 95 %."""
        count = len(self.gold_N)
        generator = torch.Generator().manual_seed(0)
        classes = len(self.labels)
        # One resample at a time: a thousand of many texts or classes would fill the memory.
        resampled_RF = torch.empty(_RESAMPLES, len(_FIGURES), dtype=torch.float64)
        for figures_F in resampled_RF:
            drawn_N = torch.randint(count, (count,), generator=generator)
            confusion_CC = _confusion(self.gold_N[drawn_N], self.chosen_N[drawn_N], classes)
            figures_F.copy_(torch.stack([of(confusion_CC) for of in _FIGURES.values()]))
        whole_CC = self.confusion_CC()
        told: dict[str, Any] = {}
        for place, (name, of) in enumerate(_FIGURES.items()):
            resampled_R = resampled_RF[:, place]
            ends = torch.quantile(resampled_R, torch.tensor(_QUANTILES, dtype=torch.float64))
            told[name] = float(of(whole_CC))
            told[f"{name}_stderr"] = float(resampled_R.std())
            told[f"{name}_interval"] = ends.tolist()
        told["largest_class"] = float(whole_CC.sum(1).max()) / count
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
