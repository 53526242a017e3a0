"""Rows of a matrix that may be larger than memory: looked at in float64, a block at a time.

The matrix may lie in a mapped file. Whether it does or not, it is looked at block by block, so that
picks do not depend on where it lies. A small one is held; of others a block, and a few numbers
a row.

Shapes: ``N`` rows, ``B`` of a block, ``D`` columns, ``K`` vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

HELD_BYTES = 32 << 20
"""Of rows in float64 that are held, as one block: 4096 of 1024 columns."""
BLOCK_BYTES = 2 << 20
"""Of a block of more than these: it stays in a processor's cache while it is worked on."""


@dataclass(frozen=True)
class Rows:
    """Rows ``matrix_MD[index_N] − shift_D``; see :func:`rows_of`.

    Attributes:
        index_N: None for all, in order.
    """

    matrix_MD: Tensor
    index_N: Tensor | None = None
    shift_D: Tensor | None = None

    def __len__(self) -> int:
        return len(self.matrix_MD if self.index_N is None else self.index_N)

    def take(self, rows: Tensor | Sequence[int]) -> Tensor:
        """Some of the rows."""
        numbers = torch.as_tensor(rows, dtype=torch.int64)
        numbers = numbers if self.index_N is None else self.index_N[numbers]
        return self._shifted(self.matrix_MD[numbers])

    def only(self, rows: Tensor | Sequence[int]) -> Rows:
        """Some of the rows as rows of their own."""
        numbers = torch.as_tensor(rows, dtype=torch.int64)
        if self._fits(len(numbers)):
            return Rows(self.take(numbers))
        return Rows(
            self.matrix_MD, numbers if self.index_N is None else self.index_N[numbers], self.shift_D
        )

    def less(self, by_D: Tensor) -> Rows:
        """The same rows less a vector."""
        if self._fits(len(self)):
            return Rows(torch.cat([block_BD - by_D for _, block_BD in self.blocks()]))
        shift_D = by_D if self.shift_D is None else self.shift_D + by_D
        return Rows(self.matrix_MD, self.index_N, shift_D)

    def blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Which rows, and these."""
        size = len(self) if self._fits(len(self)) else max(1, BLOCK_BYTES // self._bytes())
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            numbers = part if self.index_N is None else self.index_N[part]
            yield part, self._shifted(self.matrix_MD[numbers])

    def mean(self) -> Tensor:
        """``D``."""
        return sum_of(block_BD.sum(dim=0) for _, block_BD in self.blocks()) / len(self)

    def squares(self) -> Tensor:
        """Squared length of each row."""
        return torch.cat([block_BD.square().sum(dim=1) for _, block_BD in self.blocks()])

    def times(self, vector_D: Tensor) -> Tensor:
        """Each row's inner product with a vector."""
        return torch.cat([block_BD @ vector_D for _, block_BD in self.blocks()])

    def distances(self, point_D: Tensor) -> Tensor:
        """Each row's squared distance from a point."""
        return torch.cat(
            [squared_distances(block_BD, point_D[None])[:, 0] for _, block_BD in self.blocks()]
        )

    def _shifted(self, rows_BD: Tensor) -> Tensor:
        if self.shift_D is None:
            return rows_BD.to(torch.float64)
        return rows_BD - self.shift_D  # in float64, as the shift is

    def _fits(self, rows: int) -> bool:
        return rows * self._bytes() <= HELD_BYTES

    def _bytes(self) -> int:
        return 8 * max(1, self.matrix_MD.shape[1])


def rows_of(given: Tensor | Rows, index_N: Tensor | None = None) -> Rows:
    """Rows of a matrix, all or in the order of ``index_N``; held where they fit in a block."""
    rows = given if isinstance(given, Rows) else Rows(given)
    return rows if index_N is None else rows.only(index_N)


def squared_distances(x_ND: Tensor, centre_KD: Tensor) -> Tensor:
    """``N × K``, not negative."""
    products_NK = x_ND @ centre_KD.T
    squares_N1, squares_K = x_ND.square().sum(1, keepdim=True), centre_KD.square().sum(1)
    return (squares_N1 - 2 * products_NK + squares_K).clamp_min_(0)


def sum_of(parts: Iterator[Tensor]) -> Tensor:
    """Of blocks, from the first on."""
    total = next(parts)
    for part in parts:
        total = total + part
    return total
