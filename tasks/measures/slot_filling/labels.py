"""From annotations to candidates with labels, and from predicted candidates to answers.

The rules are those of the shared task's own code; one is ours: what has no place in the text stands
between the markers as its own words, where the published code put nothing, so that two candidates
of one tweet had the same input and different labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks.measures.slot_filling.records import Span, Tweet
from tasks.measures.slot_filling.schemes import AUTHOR, Event, Scheme, Slot

_SKIPPED = "coronavirus"
_AUTHOR_S = "I"


@dataclass(frozen=True)
class Instance:
    """One candidate of one tweet.

    Attributes:
        tweet: its index in the list that the instances were made of.
        chunk: the candidate's words.
        span: where it stands; None for what has no place in the text.
        labels: names of the slots that it fills.
    """

    tweet: int
    event: str
    chunk: str
    span: Span | None
    labels: frozenset[str]


def instances_of(tweets: Sequence[Tweet], scheme: Scheme) -> list[Instance]:
    """Every candidate of every tweet; equal words in a tweet are one, where they stand first."""
    return [
        Instance(index, tweet.event, chunk, span, labels_of(tweet, chunk, event))
        for index, tweet in enumerate(tweets)
        for event in [scheme.by_name[tweet.event]]
        for chunk, span in candidates_of(tweet, event).items()
    ]


def candidates_of(tweet: Tweet, event: Event) -> dict[str, Span | None]:
    """Words → where they stand."""
    found: dict[str, Span | None] = {}
    for start, end in tweet.chunks:
        chunk = tweet.text[start:end]
        if chunk != _SKIPPED:
            found.setdefault(chunk, (start, end))
    for chunk in event.candidates:
        found.setdefault(chunk, None)
    return found


def labels_of(tweet: Tweet, chunk: str, event: Event) -> frozenset[str]:
    """The slots that a candidate fills."""
    return frozenset(slot.name for slot in event.slots if _fills(tweet, chunk, slot))


def _fills(tweet: Tweet, chunk: str, slot: Slot) -> bool:
    if slot.kind == "chunk":
        return chunk in _chunks(tweet, slot.field, slot.first_person)
    if not _answered(tweet, slot):
        return False
    if slot.kind == "author":
        return chunk == AUTHOR
    return chunk in _chunks(tweet, "name", first_person=True)


def _chunks(tweet: Tweet, field: str, first_person: bool) -> list[str]:
    found = [
        answer if isinstance(answer, str) else tweet.text[answer[0] : answer[1]]
        for answer in tweet.answers.get(field, ())
    ]
    if first_person and _AUTHOR_S in found:
        found.append(AUTHOR)
    return found


def _answered(tweet: Tweet, slot: Slot) -> bool:
    given = tweet.answers.get(slot.field, ())
    return any(isinstance(a, str) and a.lower().startswith(slot.answer) for a in given)


def gold_of(tweet: Tweet, slot: Slot) -> list[str]:
    """The answers that a tweet's annotation gives to a slot, as the scorer compares them."""
    if slot.kind == "chunk":
        return _as_submitted(_chunks(tweet, slot.field, first_person=False), slot)
    if slot.kind == "author":
        return [a for a in tweet.answers.get(slot.field, ()) if a in ("effective", "not_effective")]  # type: ignore[misc]
    return [slot.answer] if _answered(tweet, slot) else []


def predicted_of(chosen: Mapping[str, Sequence[str]], event: Event) -> dict[str, list[str]]:
    """Slot → answers, from the candidates that were chosen for each slot of one tweet.

    A question of two slots that are both answered yes, such as the gender, is not answered.
    """
    answers: dict[str, list[str]] = {}
    for slot in event.slots:
        chunks = chosen.get(slot.name, ())
        if slot.kind == "chunk":
            answers[slot.name] = _as_submitted(chunks, slot)
            continue
        rivals = [s.name for s in event.slots if s.field == slot.field and s.name != slot.name]
        contradicted = any(chosen.get(rival) for rival in rivals)
        answers[slot.name] = [slot.answer] if chunks and not contradicted else []
    return answers


def _as_submitted(chunks: Sequence[str], slot: Slot) -> list[str]:
    """Each once; "I" is the author."""
    named = (AUTHOR if slot.first_person and c == _AUTHOR_S else c for c in chunks)
    return list(dict.fromkeys(named))
