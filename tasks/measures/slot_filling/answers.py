"""From probabilities to thresholds, answers of the right type, and their score.

Shapes: ``N`` instances, ``S`` columns.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tasks.measures.slot_filling.labels import Instance, gold_of, predicted_of
from tasks.measures.slot_filling.records import Tweet
from tasks.measures.slot_filling.schemes import Scheme
from tasks.measures.slot_filling.scoring import (
    GRID,
    best_threshold,
    compare,
    standard_error,
)
from tasks.measures.tuning.scores import Counts, pooled

Thresholds = Mapping[int, float]
"""Column → from which probability on a candidate fills its slot."""
_NUMBER_WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety "
    "hundred teen teens teenager toddler infant baby"
).replace(" ", "|")
_AGE = re.compile(rf"\d|\b({_NUMBER_WORDS})\b", re.IGNORECASE)
_WHEN = re.compile(
    r"\b(mon|tues|wednes|thurs|fri|satur|sun)day|\b(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
    r"|\b(today|tonight|yesterday|tomorrow|now|last|this|next|ago|morning|evening|afternoon|night"
    r"|weekend|week|month|year|day|hour)s?\b|\d",
    re.IGNORECASE,
)
_PURE_NUMBER = re.compile(r"[\d\s.,]+")
_PLACES = ("where", "recent_travel")
_HEADER = ("event", "slot", "scored", "N", "TP", "FP", "FN", "P", "R", "F1", "threshold")


@dataclass(frozen=True)
class Judged:
    """A part's tweets, their instances, and what the network says of each."""

    tweets: Sequence[Tweet]
    instances: Sequence[Instance]
    probabilities_NS: Tensor


@dataclass(frozen=True)
class Score:
    """Counts of each tweet and column; columns that are not scored have theirs too."""

    counts: Sequence[Mapping[int, Counts]]

    def of_column(self, column: int) -> Counts:
        """Over all tweets."""
        return pooled(tweet[column] for tweet in self.counts if column in tweet)

    def whole(self, scheme: Scheme) -> Counts:
        """Over all columns that are scored."""
        scored = [c for c, (_, slot) in enumerate(scheme.columns) if slot.scored]
        return pooled(self.of_column(column) for column in scored)

    def figures(self, scheme: Scheme) -> dict[str, Any]:
        """Micro- and macro-averages over scored columns, and micro-F1 of each event."""
        scored = [c for c, (_, slot) in enumerate(scheme.columns) if slot.scored]
        by_tweet = [pooled(tweet[c] for c in scored if c in tweet) for tweet in self.counts]
        by_column = {column: self.of_column(column) for column in scored}
        whole = self.whole(scheme)
        asked = [found.f1 for found in by_column.values() if found.tp + found.fn]
        events = {
            event: pooled(by_column[c] for c in scheme.of_event(event) if c in by_column)
            for event in scheme.by_name
        }
        return {
            "f1": whole.f1,
            "stderr": standard_error(by_tweet),
            "precision": whole.precision,
            "recall": whole.recall,
            "macro_f1": sum(asked) / len(asked) if asked else 0.0,
            "events": {e: found.f1 for e, found in events.items() if found.tp + found.fn},
        }


def thresholds_of(dev: Judged, scheme: Scheme, given: float | str) -> dict[int, float]:
    """Each column's threshold: ``given``, or where that is ``dev`` the best one there."""
    if not isinstance(given, str):
        return dict.fromkeys(range(len(scheme.columns)), given)
    found = {}
    for column, (event, slot) in enumerate(scheme.columns):
        mine = [row for row, i in enumerate(dev.instances) if i.event == event]
        probabilities = dev.probabilities_NS[mine, column].tolist()
        labels = [slot.name in dev.instances[row].labels for row in mine]
        found[column] = best_threshold(probabilities, labels)
    return found


def score(test: Judged, scheme: Scheme, thresholds: Thresholds, *, typed: bool = False) -> Score:
    """Every tweet's answers against its annotation, as the official scorer counts.

    A chunk that is answered twice counts once: answers are made without repetitions.
    """
    rows: dict[int, list[int]] = {}
    for row, instance in enumerate(test.instances):
        rows.setdefault(instance.tweet, []).append(row)
    counts: list[Mapping[int, Counts]] = []
    for index, tweet in enumerate(test.tweets):
        event, columns = scheme.by_name[tweet.event], scheme.of_event(tweet.event)
        chosen: dict[str, list[str]] = {slot.name: [] for slot in event.slots}
        for row in rows.get(index, ()):
            chunk = test.instances[row].chunk
            for slot in _chosen(test, row, scheme, columns, thresholds, typed):
                chosen[slot].append(chunk)
        answers = predicted_of(chosen, event)
        counts.append(
            {
                column: compare(gold_of(tweet, slot), answers[slot.name], unique=True)
                for column, slot in zip(columns, event.slots, strict=True)
            }
        )
    return Score(counts)


def precision_recall(
    test: Judged, scheme: Scheme, *, typed: bool = False
) -> list[tuple[float, float]]:
    """(recall, micro-precision) as one threshold for all slots moves, recall growing.

    Of thresholds that answer alike or with equal recall the most precise stands; those that answer
    nothing have no precision.
    """
    best: dict[float, float] = {}
    for threshold in GRID:
        same = dict.fromkeys(range(len(scheme.columns)), threshold)
        found = score(test, scheme, same, typed=typed).whole(scheme)
        if found.tp + found.fp:
            best[found.recall] = max(found.precision, best.get(found.recall, 0.0))
    return sorted(best.items())


def _chosen(
    test: Judged, row: int, scheme: Scheme, columns: range, thresholds: Thresholds, typed: bool
) -> list[str]:
    """The slots that one candidate fills."""
    told = {scheme.columns[c][1].name: float(test.probabilities_NS[row, c]) for c in columns}
    over = {scheme.columns[c][1].name: thresholds[c] for c in columns}
    found = [slot for slot, probability in told.items() if probability >= over[slot]]
    if not typed:
        return found
    chunk, named = test.instances[row].chunk, "name" in found
    return [slot for slot in found if allowed(slot, chunk, told, named)]


def as_csv(score: Score, scheme: Scheme, thresholds: Thresholds) -> str:
    """One line a slot."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(_HEADER)
    for column, (event, slot) in enumerate(scheme.columns):
        found = score.of_column(column)
        lines.writerow(
            [
                event,
                slot.name,
                "yes" if slot.scored else "no",
                found.tp + found.fn,
                found.tp,
                found.fp,
                found.fn,
                found.precision,
                found.recall,
                found.f1,
                thresholds[column],
            ]
        )
    return out.getvalue()


def allowed(slot: str, chunk: str, probabilities: Mapping[str, float], named: bool) -> bool:
    """Whether a predicted chunk can be the answer to a slot, by its type.

    Args:
        probabilities: slot → the chunk's probability.
        named: whether the chunk is also predicted as ``name``.
    """
    if slot == "age":
        return bool(_AGE.search(chunk))
    if slot == "when":
        return bool(_WHEN.search(chunk))
    if slot == "name":
        return not _PURE_NUMBER.fullmatch(chunk)
    if slot in _PLACES and named:
        return probabilities[slot] >= probabilities["name"]
    return True
