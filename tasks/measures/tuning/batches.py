"""Examples as token ids, and batches of them.

Shapes: ``B`` examples, ``L`` tokens of the longest, ``S`` columns of the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Encoded:
    """One example as the network reads it.

    Attributes:
        ids: special tokens included.
        opens, closes: where an encoder and where a decoder is read.
        columns: that are asked of it.
        labels: of the columns, those that are true.
        record: the place of the text that it is of.
        cut: whether that text's end is not among the tokens.
    """

    ids: tuple[int, ...]
    opens: int
    closes: int
    columns: range
    labels: frozenset[int]
    record: int
    cut: bool


@dataclass(frozen=True)
class Batch:
    """Examples, padded on the right.

    Attributes:
        attended_BL: 0 at padding.
        asked_BS: 1 at the columns that are asked of the example.
    """

    ids_BL: Tensor
    attended_BL: Tensor
    opens_B: Tensor
    closes_B: Tensor
    asked_BS: Tensor
    labels_BS: Tensor


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
