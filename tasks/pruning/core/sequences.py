"""Sequences of tokens to learn from, and which of their tokens count.

Shapes: ``N`` sequences, ``L`` tokens of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """Token ids, and which of them count.

    Attributes:
        counted_NL: bool, tokens that a loss is taken over where they are predicted; None: all.
        prefix: how many tokens each begins with that the tokenizer puts before every text, as BOS.
    """

    ids_NL: Tensor
    counted_NL: Tensor | None = None
    prefix: int = 0

    def __len__(self) -> int:
        return len(self.ids_NL)

    def __getitem__(self, rows: Tensor | slice) -> Sequences:
        counted_NL = self.counted_NL
        rows_NL = None if counted_NL is None else counted_NL[rows]
        return Sequences(self.ids_NL[rows], rows_NL, self.prefix)

    def split(self, size: int) -> Iterator[Sequences]:
        """So many at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def cut(self, length: int) -> Sequences:
        """Cut into sequences of ``length`` tokens; what is left of each goes.

        So do those that predict no token that counts. Each begins with the prefix of the one that
        it is cut from: the model was trained on no text without it.

        Raises:
            ValueError: one is shorter, the prefix leaves no room, or none is left.
        """
        available = self.ids_NL.shape[1]
        if available < length:
            raise ValueError(
                f"sequence_length {length} is more than the {available} tokens of a training window"
            )
        if length <= self.prefix:
            raise ValueError(
                f"sequence_length {length} has no room for text: the tokenizer puts {self.prefix} "
                "tokens before every text"
            )
        ids_NL = self._pieces(self.ids_NL, length)
        if self.counted_NL is None:
            return Sequences(ids_NL, prefix=self.prefix)
        counted_NL = self._pieces(self.counted_NL, length)
        predicts_N = counted_NL[:, 1:].any(dim=1)
        if not predicts_N.any():
            raise ValueError(f"no sequence of {length} tokens predicts a token that counts")
        return Sequences(ids_NL, counted_NL, self.prefix)[predicts_N]

    def _pieces(self, of_NL: Tensor, length: int) -> Tensor:
        before_NP, text_NL = of_NL[:, : self.prefix], of_NL[:, self.prefix :]
        step = length - self.prefix
        count = text_NL.shape[1] // step
        text_MS = text_NL[:, : count * step].reshape(-1, step)
        return torch.cat([before_NP.repeat_interleave(count, dim=0), text_MS], dim=1)

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
