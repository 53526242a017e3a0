"""From instances to token ids: the candidate between ``<E>`` and ``</E>``, and where they stand.

Shapes: ``B`` instances, ``L`` tokens of the longest, ``S`` columns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from configs.errors import ConfigurationError
from tasks.data.windows import suffix_tokens
from tasks.measures.slot_filling.labels import Instance
from tasks.measures.slot_filling.records import Span, Tweet
from tasks.measures.slot_filling.schemes import Scheme

OPEN, CLOSE, URL, USER = "<E>", "</E>", "<URL>", "@USER"
TOKENS = (OPEN, CLOSE, URL, USER)
"""What a tokenizer learns for the task, each one token."""
_WORD = re.compile(r"\S+")
_LINK = re.compile(r"http|www\.|twitter\.com|pic\.twitter\.com", re.IGNORECASE)


@dataclass(frozen=True)
class Encoded:
    """One instance as the network reads it.

    Attributes:
        ids: special tokens included.
        opens, closes: where the markers stand.
        columns: of its event.
        labels: of the columns, those that are true.
        cut: whether the tweet's end is not among the tokens.
    """

    ids: tuple[int, ...]
    opens: int
    closes: int
    columns: range
    labels: frozenset[int]
    cut: bool


@dataclass(frozen=True)
class Batch:
    """Instances, padded on the right.

    Attributes:
        attended_BL: 0 at padding.
        asked_BS: 1 at the columns of the instance's own event.
    """

    ids_BL: Tensor
    attended_BL: Tensor
    opens_B: Tensor
    closes_B: Tensor
    asked_BS: Tensor
    labels_BS: Tensor


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
        encoded.append(Encoded(tuple(ids), *places, columns, labels, cut))
    return encoded


def batches(
    encoded: Sequence[Encoded], size: int, columns: int, padding: int, device: torch.device
) -> Iterator[Batch]:
    """In order, each padded to its longest."""
    for first in range(0, len(encoded), size):
        part = encoded[first : first + size]
        length = max(len(entry.ids) for entry in part)
        ids_BL = torch.full((len(part), length), padding)
        attended_BL = torch.zeros(len(part), length, dtype=torch.long)
        asked_BS = torch.zeros(len(part), columns)
        labels_BS = torch.zeros(len(part), columns)
        for row, entry in enumerate(part):
            ids_BL[row, : len(entry.ids)] = torch.tensor(entry.ids)
            attended_BL[row, : len(entry.ids)] = 1
            asked_BS[row, entry.columns.start : entry.columns.stop] = 1
            labels_BS[row, list(entry.labels)] = 1
        yield Batch(
            ids_BL.to(device),
            attended_BL.to(device),
            torch.tensor([entry.opens for entry in part], device=device),
            torch.tensor([entry.closes for entry in part], device=device),
            asked_BS.to(device),
            labels_BS.to(device),
        )
