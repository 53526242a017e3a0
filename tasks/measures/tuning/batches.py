"""Examples as token ids, and batches of them.

Shapes: ``B`` examples, ``L`` tokens of the longest, ``R`` readings of all of them, ``S`` columns of
the network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Reading:
    """One place of an example where the network answers.

    Attributes:
        opens, closes: where an encoder and where a decoder is read.
        columns: that are asked of it.
        labels: of the columns, those that are true.
        item: which part of its record it is about, such as a word's place; 0: the whole.
    """

    opens: int
    closes: int
    columns: range
    labels: frozenset[int]
    item: int = 0


@dataclass(frozen=True)
class Encoded:
    """One example as the network reads it.

    Attributes:
        ids: special tokens included.
        readings: where it is read; none where all that was asked about is cut.
        record: the place of the text that it is of.
        cut: whether that text's end is not among the tokens.
    """

    ids: tuple[int, ...]
    readings: tuple[Reading, ...]
    record: int
    cut: bool


@dataclass(frozen=True)
class Batch:
    """Examples, padded on the right, and where they are read, in their order.

    Attributes:
        attended_BL: 0 at padding.
        rows_R: which example each reading is of.
        asked_RS: 1 at the columns that are asked there.
    """

    ids_BL: Tensor
    attended_BL: Tensor
    rows_R: Tensor
    opens_R: Tensor
    closes_R: Tensor
    asked_RS: Tensor
    labels_RS: Tensor


def label_counts(encoded: Iterable[Encoded]) -> Counter[int]:
    """Column → how many readings it is true of."""
    return Counter(c for entry in encoded for reading in entry.readings for c in reading.labels)


def count_readings(encoded: Iterable[Encoded]) -> int:
    """Of all examples."""
    return sum(len(entry.readings) for entry in encoded)


def batches(
    encoded: Sequence[Encoded], size: int, columns: int, padding: int, device: torch.device
) -> Iterator[Batch]:
    """In order, each padded to its longest."""
    for first in range(0, len(encoded), size):
        part = encoded[first : first + size]
        yield batch_of(part, longest(part), columns, padding, device)


def longest(part: Sequence[Encoded]) -> int:
    """Tokens of the longest example."""
    return max(len(entry.ids) for entry in part)


def batch_of(
    part: Sequence[Encoded], length: int, columns: int, padding: int, device: torch.device
) -> Batch:
    """The examples, each padded to ``length`` tokens."""
    ids_BL = torch.full((len(part), length), padding)
    attended_BL = torch.zeros(len(part), length, dtype=torch.long)
    for row, entry in enumerate(part):
        ids_BL[row, : len(entry.ids)] = torch.tensor(entry.ids)
        attended_BL[row, : len(entry.ids)] = 1
    readings = [(row, reading) for row, entry in enumerate(part) for reading in entry.readings]
    asked_RS = torch.zeros(len(readings), columns)
    labels_RS = torch.zeros(len(readings), columns)
    for place, (_, reading) in enumerate(readings):
        asked_RS[place, reading.columns.start : reading.columns.stop] = 1
        labels_RS[place, list(reading.labels)] = 1
    told = [(row, reading.opens, reading.closes) for row, reading in readings]
    rows_R, opens_R, closes_R = torch.tensor(told, dtype=torch.long).view(-1, 3).unbind(1)
    return Batch(
        ids_BL.to(device),
        attended_BL.to(device),
        rows_R.to(device),
        opens_R.to(device),
        closes_R.to(device),
        asked_RS.to(device),
        labels_RS.to(device),
    )
