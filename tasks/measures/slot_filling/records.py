"""Reads annotated tweets: one JSONL file an event, as the shared task gives them.

Offsets count characters (code points) of the text; the end is exclusive.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError
from tasks.data.files import decoded
from tasks.measures.slot_filling.schemes import Scheme

Span = tuple[int, int]
Answer = Span | str

NOT_SPECIFIED, NO_CONSENSUS = "Not Specified", "NO_CONSENSUS"
_RESPONSE = "part2-{}.Response"
_SHARES = (0.60, 0.75)
"""Where dev and test begin in a file that holds all: 60 / 15 / 25."""


@dataclass(frozen=True)
class Tweet:
    """One annotated text.

    Attributes:
        chunks: candidates, as parts of the text; they may overlap.
        answers: field → what annotators agreed on; empty where nothing is specified.
        place: file and line, for messages.
    """

    id: str
    event: str
    text: str
    chunks: tuple[Span, ...]
    answers: Mapping[str, tuple[Answer, ...]]
    place: str = ""


def files_of(folder: Path, scheme: Scheme, field: str) -> dict[str, Path]:
    """Event → its file, of those that a folder has.

    Raises:
        ConfigurationError: a file of no known event, or none at all.
    """
    found = {path.stem: path for path in sorted(folder.glob("*.jsonl"))}
    known = ", ".join(scheme.by_name)
    for name in found:
        if name not in scheme.by_name:
            allowed = f"a file is called as an event: {known}"
            raise ConfigurationError(field, f"{name}.jsonl", allowed)
    if not found:
        raise ConfigurationError(
            field, str(folder), f"a folder holds <event>.jsonl files, with events {known}"
        )
    return {event: found[event] for event in scheme.by_name if event in found}


def read_tweets(files: Mapping[str, Path], scheme: Scheme, field: str) -> list[Tweet]:
    """The tweets of all events, in the order of events and lines.

    Raises:
        ConfigurationError: a file that is not UTF-8; or naming file and line: no JSON, a field
            that is missing or of another kind, offsets outside the text, or two annotations of one
            id.
    """
    tweets: list[Tweet] = []
    for event, path in files.items():
        seen: dict[str, int] = {}
        lines = decoded(path.read_bytes(), field, str(path)).split("\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"{path.name}:{number}"
            try:
                tweet = tweet_of(json.loads(line), event, scheme, place)
            except (ValueError, TypeError, KeyError) as error:
                reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
                raise ConfigurationError(field, place, reason) from error
            if tweet.id in seen:
                reason = f"id {tweet.id} is annotated in line {seen[tweet.id]} too"
                raise ConfigurationError(field, place, reason)
            seen[tweet.id] = number
            tweets.append(tweet)
    return tweets


def tweet_of(record: Any, event: str, scheme: Scheme, place: str) -> Tweet:
    """One line's tweet.

    Raises:
        KeyError, TypeError, ValueError: with what is wrong.
    """
    if not isinstance(record, dict) or not isinstance(record["annotation"], dict):
        raise TypeError("a line is a JSON object with an object as annotation")
    text = record["text"]
    if not isinstance(text, str) or any("\ud800" <= sign <= "\udfff" for sign in text):
        raise TypeError("text is a string of whole characters")
    chunks = tuple(_span(found, text) for found in record["candidate_chunks_offsets"])
    fields = dict.fromkeys(slot.field for slot in scheme.by_name[event].slots)
    answers = {
        name: _answers(record["annotation"].get(_RESPONSE.format(name), ()), text)
        for name in fields
    }
    return Tweet(str(record["id"]), event, text, chunks, answers, place)


def record_of(tweet: Tweet) -> dict[str, Any]:
    """The line that :func:`tweet_of` reads back."""
    return {
        "id": tweet.id,
        "text": tweet.text,
        "candidate_chunks_offsets": [list(span) for span in tweet.chunks],
        "annotation": {
            _RESPONSE.format(name): [
                answer if isinstance(answer, str) else list(answer) for answer in answers
            ]
            or [NOT_SPECIFIED]
            for name, answers in tweet.answers.items()
        },
    }


def _answers(given: Any, text: str) -> tuple[Answer, ...]:
    entries: Iterable[Any] = (given,) if isinstance(given, str) else given
    found = (entry if isinstance(entry, str) else _span(entry, text) for entry in entries)
    return tuple(dict.fromkeys(e for e in found if e not in (NOT_SPECIFIED, NO_CONSENSUS)))


def _span(given: Any, text: str) -> Span:
    start, end = given
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text):
        raise ValueError(f"offsets {given} are none of a text of {len(text)} characters")
    return start, end


def split(tweets: Sequence[Tweet]) -> tuple[list[Tweet], list[Tweet], list[Tweet]]:
    """Train, dev and test: 60 / 15 / 25 % of each event's unique texts, in their order.

    Tweets of one text come to one side.
    """
    parts: tuple[list[Tweet], list[Tweet], list[Tweet]] = ([], [], [])
    for event in dict.fromkeys(tweet.event for tweet in tweets):
        mine = [tweet for tweet in tweets if tweet.event == event]
        texts = {text: rank for rank, text in enumerate(dict.fromkeys(t.text for t in mine))}
        begins = [round(share * len(texts)) for share in _SHARES]
        for tweet in mine:
            parts[sum(texts[tweet.text] >= begin for begin in begins)].append(tweet)
    return parts
