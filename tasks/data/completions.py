"""Which tokens of a text are of completions, and in which windows of it there are any.

Shapes: ``T`` tokens of the text, ``N`` windows, ``S`` spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from configs.errors import ConfigurationError
from tasks.data.documents import Chat, Document, Pair, by_template, is_answer

Span = tuple[int, int]
"""Characters, half-open."""


def spans_of(
    documents: Sequence[Document],
    texts: Sequence[str],
    separator: str,
    tokenizer: Any,
    prefix: str,
    *,
    field: str,
    given: str,
) -> list[Span]:
    """Where completions lie in the texts that ``separator`` joins, in ascending order.

    Of a conversation, every answer of the assistant with what ends it; where the template writes
    nothing that an answer begins with before it is asked for one, that counts as well.

    Args:
        texts: of the documents, see :func:`tasks.data.documents.rendered`.
        prefix: what was taken from the beginning of conversations.
        field, given: of the corpus, for messages.

    Raises:
        ConfigurationError: the template writes a conversation's beginning otherwise than alone.
    """
    found: list[Span] = []
    begin = 0
    for number, (document, text) in enumerate(zip(documents, texts, strict=True), start=1):
        if isinstance(document, Pair):
            spans: Iterable[Span] = [(len(document.prompt), len(text))]
        else:
            assert not isinstance(document, str), "read without completions"
            try:
                spans = list(_answers(document, text, tokenizer, prefix))
            except Exception as error:  # templates are programs and raise what they like
                allowed = f"where conversation {number} has its answers cannot be told: {error}"
                raise ConfigurationError(
                    field, given, allowed, "Give rows of prompt and completion"
                ) from error
        found += [(begin + first, begin + last) for first, last in spans]
        begin += len(text) + len(separator)
    return found


def _answers(chat: Chat, text: str, tokenizer: Any, prefix: str) -> Iterator[Span]:
    """What each answer adds to the conversation before it."""
    for index, message in enumerate(chat):
        if not is_answer(message):
            continue
        if not index:
            raise ValueError("it begins with one, and a template may write more before that")
        before = by_template(chat[:index], tokenizer, opens=True)
        before = before.removeprefix(prefix)
        after = by_template(chat[: index + 1], tokenizer).removeprefix(prefix)
        if not (text.startswith(after) and after.startswith(before)):
            raise ValueError(
                f"the model's chat template writes message {index + 1} otherwise where more follow"
            )
        yield len(before), len(after)


def tokens_in(spans: Sequence[Span], offsets: Sequence[Span]) -> Tensor:
    """``T``, bool: tokens that hold a character of a span.

    Args:
        spans: ascending, apart from each other.
        offsets: of each token, its characters.
    """
    first_T, last_T = torch.tensor(offsets, dtype=torch.int64).view(-1, 2).T.contiguous()
    if not spans:
        return torch.zeros(len(first_T), dtype=torch.bool)
    first_S, last_S = torch.tensor(spans, dtype=torch.int64).T.contiguous()
    # Of the spans, the first that ends behind the token's beginning.
    next_T = torch.searchsorted(last_S, first_T, right=True).clamp(max=len(spans) - 1)
    return (first_S[next_T] < last_T) & (first_T < last_S[next_T])


def places(counted_T: Tensor, step: int, *, every: int, predicted: int) -> Tensor:
    """Where windows of ``step`` tokens begin in which a predicted token counts, ascending.

    Args:
        every: windows begin at multiples of it.
        predicted: from which of a window's tokens on they are predicted.
    """
    before_T = torch.cat([torch.zeros(1, dtype=torch.int64), counted_T.cumsum(0)])
    first_N = torch.arange(0, max(0, len(counted_T) - step + 1), every)
    return first_N[before_T[first_N + step] > before_T[first_N + predicted]]
