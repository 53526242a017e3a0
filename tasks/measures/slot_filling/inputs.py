"""From instances to token ids: the candidate between ``<E>`` and ``</E>``, and where they stand."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from configs.errors import ConfigurationError
from tasks.data.windows import suffix_tokens
from tasks.measures.slot_filling.labels import Instance
from tasks.measures.slot_filling.records import Span, Tweet
from tasks.measures.slot_filling.schemes import Scheme
from tasks.measures.tuning.batches import Encoded, Reading

OPEN, CLOSE, URL, USER = "<E>", "</E>", "<URL>", "@USER"
TOKENS = (OPEN, CLOSE, URL, USER)
"""What a tokenizer learns for the task, each one token."""
_WORD = re.compile(r"\S+")
_LINK = re.compile(r"http|www\.|twitter\.com|pic\.twitter\.com", re.IGNORECASE)


def marked(tweet: Tweet, instance: Instance) -> str:
    """The text with the candidate between the markers, links and handles replaced.

    What has no place in the text stands between the markers in front of it.
    """
    text, moved = _replaced(tweet.text)
    if instance.span is None:
        return f"{OPEN} {instance.chunk} {CLOSE} {text}"
    start, end = moved(instance.span)
    return f"{text[:start]}{OPEN} {text[start:end]} {CLOSE}{text[end:]}"


def _replaced(text: str) -> tuple[str, Callable[[Span], Span]]:
    """Words that are links or handles replaced, and from old offsets to new ones."""
    pieces: list[tuple[int, int, str]] = []
    for word in _WORD.finditer(text):
        if _LINK.match(word[0]):
            pieces.append((word.start(), word.end(), URL))
        elif word[0].startswith("@") and len(word[0]) > 1:
            pieces.append((word.start(), word.end(), USER))
    made, end = "", 0
    for start, stop, sign in pieces:
        made, end = made + text[end:start] + sign, stop

    def moved(span: Span) -> Span:
        return _offset(span[0], pieces, last=False), _offset(span[1], pieces, last=True)

    return made + text[end:], moved


def _offset(given: int, pieces: Sequence[tuple[int, int, str]], *, last: bool) -> int:
    """Where an offset comes to lie; inside a replaced word, at its beginning or its end."""
    shift = 0
    for start, stop, sign in pieces:
        if given >= stop:
            shift += len(sign) - (stop - start)
        elif given > start:
            return start + shift + (len(sign) if last else 0)
    return given + shift


def encode(
    tweets: Sequence[Tweet],
    instances: Sequence[Instance],
    scheme: Scheme,
    tokenizer: Any,
    longest: int,
    field: str,
) -> list[Encoded]:
    """Every instance, in order.

    Args:
        tokenizer: that knows :data:`TOKENS`.
        longest: tokens of an instance; of a longer one the end is cut, and never a marker.

    Raises:
        ConfigurationError: a marker would be cut, or a text holds one of its own.
    """
    after = suffix_tokens(tokenizer)
    opens, closes = tokenizer.convert_tokens_to_ids([OPEN, CLOSE])
    encoded = []
    for instance in instances:
        tweet, columns = tweets[instance.tweet], scheme.of_event(instance.event)
        ids = tokenizer(marked(tweet, instance), verbose=False)["input_ids"]
        told = f"{tweet.place or tweet.id}, {instance.chunk!r}"
        if (ids.count(opens), ids.count(closes)) != (1, 1):
            allowed = f"a text holds no {OPEN} or {CLOSE} of its own"
            raise ConfigurationError(field, told, allowed)
        places = ids.index(opens), ids.index(closes)
        cut = len(ids) > longest
        if cut:
            room = longest - len(after)
            if places[1] >= room:
                raise ConfigurationError(
                    f"{field}.max_tokens",
                    longest,
                    f"the candidate's markers must not be cut, and those of {told} end with token "
                    f"{places[1] + 1} of {len(ids)}",
                    "Raise it, or take the tweet out",
                )
            ids = [*ids[:room], *after]
        labels = frozenset(c for c in columns if scheme.columns[c][1].name in instance.labels)
        reading = Reading(*places, columns, labels)
        encoded.append(Encoded(tuple(ids), (reading,), instance.tweet, cut))
    return encoded
