"""Sequences of tokens to learn from, and which of their tokens count.

Shapes: ``N`` sequences, ``L`` tokens of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """Token ids, and which of them count.

    Attributes:
        counted_NL: bool, tokens that a loss is taken over where they are predicted; None: all.
    """

    ids_NL: Tensor
    counted_NL: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids_NL)

    def __getitem__(self, rows: Tensor | slice) -> Sequences:
        counted_NL = self.counted_NL
        return Sequences(self.ids_NL[rows], None if counted_NL is None else counted_NL[rows])

    def split(self, size: int) -> Iterator[Sequences]:
        """So many at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def cut(self, length: int) -> Sequences:
        """Cut into sequences of ``length`` tokens; what is left of each goes.

        So do those that predict no token that counts.

        Raises:
            ValueError: one is shorter, or none is left.
        """
        available = self.ids_NL.shape[1]
        if available < length:
            raise ValueError(
                f"sequence_length {length} is more than the {available} tokens of a training window"
            )
        ids_NL, counted_NL = (
            None if of_NL is None else of_NL[:, : available // length * length].reshape(-1, length)
            for of_NL in (self.ids_NL, self.counted_NL)
        )
        assert ids_NL is not None
        if counted_NL is None:
            return Sequences(ids_NL)
        predicts_N = counted_NL[:, 1:].any(dim=1)
        if not predicts_N.any():
            raise ValueError(f"no sequence of {length} tokens predicts a token that counts")
        return Sequences(ids_NL, counted_NL)[predicts_N]

    def weight(self) -> int:
        """What a mean over these counts in one over more: sequences, or tokens that count."""
        return len(self) if self.counted_NL is None else int(self.counted_NL[:, 1:].sum())


def predicting(of_NLX: Tensor, counted_NL: Tensor | None) -> Tensor:
    """What stands before each predicted token that counts, ``T × X``.

    Args:
        of_NLX: of every token, such as logits.
    """
    of_TX = of_NLX[:, :-1].flatten(0, 1)
    return of_TX if counted_NL is None else of_TX[_kept(counted_NL, of_TX)]


def predicted(ids_NL: Tensor, counted_NL: Tensor | None) -> Tensor:
    """The predicted tokens that count, ``T``."""
    ids_T = ids_NL[:, 1:].flatten()
    return ids_T if counted_NL is None else ids_T[_kept(counted_NL, ids_T)]


def _kept(counted_NL: Tensor, like: Tensor) -> Tensor:
    return counted_NL[:, 1:].flatten().to(like.device)
