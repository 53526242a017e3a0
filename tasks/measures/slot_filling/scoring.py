"""The official scorer's arithmetic, thresholds, and the bootstrap over tweets."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import torch

from tasks.measures.slot_filling.records import NOT_SPECIFIED
from tasks.measures.tuning.scores import Counts, resampled

GRID = tuple(step / 20 for step in range(1, 20))
"""Thresholds that dev chooses from: 0.05 … 0.95."""
_UNKNOWN = 0.5
"""The threshold where dev has no positive: any other would be an accident."""


def compare(gold: Sequence[str], predicted: Sequence[str], *, unique: bool = False) -> Counts:
    """One tweet's answers to one slot, as the official scorer compares lists.

    Lower case; ``Not Specified`` in exactly this spelling is no answer. A chunk that is predicted
    twice counts twice.

    Args:
        unique: count each chunk once instead.
    """

    def told(chunks: Sequence[str]) -> list[str]:
        lowered = [chunk.lower() for chunk in chunks if chunk != NOT_SPECIFIED]
        return list(dict.fromkeys(lowered)) if unique else lowered

    right, given = told(gold), told(predicted)
    hits = sum(chunk in right for chunk in given)
    return Counts(hits, len(given) - hits, sum(chunk not in given for chunk in right))


def best_threshold(probabilities: Sequence[float], labels: Sequence[bool]) -> float:
    """The threshold of :data:`GRID` with the best F1 on dev; the median of those that are equal.

    The first of equals, as published, would be 0.05 for each slot that is told apart perfectly, and
    floods the test with false positives.
    """
    if not any(labels):
        return _UNKNOWN
    scores = {}
    for threshold in GRID:
        chosen = [p >= threshold for p in probabilities]
        hits = sum(c and y for c, y in zip(chosen, labels, strict=True))
        scores[threshold] = Counts(hits, sum(chosen) - hits, sum(labels) - hits).f1
    best = max(scores.values())
    return median(threshold for threshold, score in scores.items() if score == best)


def standard_error(by_tweet: Sequence[Counts], *, seed: int = 0) -> float:
    """Of micro-F1, by drawing as many tweets with replacement, again and again."""
    if not by_tweet:
        return 0.0
    counts_T3 = torch.tensor([(c.tp, c.fp, c.fn) for c in by_tweet], dtype=torch.float64)
    told_RF = resampled(len(by_tweet), lambda drawn_T: counts_T3[drawn_T].sum(0), seed=seed)
    tp_R, fp_R, fn_R = told_RF.unbind(1)
    f1_R = 2 * tp_R / (2 * tp_R + fp_R + fn_R).clamp_min(1)
    return float(f1_R.std())
