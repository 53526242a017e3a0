"""Where the pieces of each word stand among a sentence's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.models.errors import UnsupportedModelError

Pieces = list[tuple[int, int] | None]
"""Of each word its first and its last piece; None where the tokenizer makes no token of it."""


def pieces_of(words: Sequence[str], tokenizer: Any) -> tuple[list[int], Pieces]:
    """A sentence's token ids, special ones included, and where its words stand among them.

    The words are read as one text with a blank between two of them, as a model has read texts. A
    token that spans several words is a piece of each.

    Raises:
        UnsupportedModelError: the tokenizer does not tell which characters a token is of.
    """
    if not tokenizer.is_fast:
        raise UnsupportedModelError(
            f"{type(tokenizer).__name__} does not tell which characters its tokens are of, so "
            "words cannot be found among them; a tokenizer.json does"
        )
    found = tokenizer(" ".join(words), return_offsets_mapping=True, verbose=False)
    owner = [place for place, word in enumerate(words) for _ in f"{word} "]
    inside = [sign for word in words for sign in (*(not c.isspace() for c in word), False)]
    pieces: Pieces = [None] * len(words)
    for token, (start, end) in enumerate(found["offset_mapping"]):
        for word in dict.fromkeys(owner[at] for at in range(start, end) if inside[at]):
            first = pieces[word]
            pieces[word] = (first[0] if first else token, token)
    return found["input_ids"], pieces
