"""A text cut into windows of tokens, and where each of them lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasks.data import windows as token_windows
from tasks.data.corpora import Passage
from tasks.data.documents import rendered
from tasks.data.windows import Tokens
from tasks.selection import positions

if TYPE_CHECKING:
    from tasks.data.texts import Windows


@dataclass(frozen=True)
class Cut:
    """A text as a model's tokenizer cuts it.

    Attributes:
        windows_NL: int32.
        prefix: tokens that each window starts with, before those of the text.
        vocabulary: the tokenizer's digest.
        documents: how many the windows touch and cut; empty where the tokenizer does not tell.
        sources: of each window, where its middle token is from.
        offsets: of each window, tokens of its passage before it.
    """

    windows_NL: Tensor
    prefix: tuple[int, ...]
    vocabulary: str
    documents: Mapping[str, int]
    sources: Sequence[str]
    offsets: Sequence[int]

    def by_source(self) -> dict[str, int]:
        """How many windows are of each source, in order of appearance."""
        return dict(Counter(self.sources))


def cut_passages(
    windows: Windows,
    passages: Sequence[Passage],
    tokenizer: Any,
    given: str,
    *,
    encoder: bool = False,
) -> Cut:
    """Tokenise passages and cut them into windows.

    Args:
        given: the corpus in words, for messages.
        encoder: whether each window ends with what the tokenizer puts after a text: an encoder
            sees both sides of every token, and has seen no text without it.

    Raises:
        ConfigurationError: when there is too little text, or it holds conversations and the
            tokenizer has no template.
    """
    field = windows.field
    prefix = token_windows.prefix_tokens(tokenizer)
    before = tokenizer.decode(prefix) if prefix else ""
    suffix = token_windows.suffix_tokens(tokenizer) if encoder else ()
    step = token_windows.text_step(windows.length, (*prefix, *suffix), field)
    tokens = [
        token_windows.tokenise(
            tokenizer,
            rendered(p.documents, tokenizer, before, field=f"{field}.corpus", given=given),
            p.separator,
        )
        for p in passages
    ]
    counts = _counts(windows, passages, tokens, step, (*prefix, *suffix))
    made: list[Tensor] = []
    sources: list[str] = []
    offsets: list[int] = []
    documents: Counter[str] = Counter()
    for number, (passage, text, count) in enumerate(zip(passages, tokens, counts, strict=True)):
        offsets_N = windows.skip + _offsets(windows, len(text.ids_T), step, count, number)
        made.append(token_windows.windows_at(text.ids_T, offsets_N, step, prefix))
        found = offsets_N.tolist()
        documents.update(text.documents((first, first + step) for first in found))
        sources += [passage.source(text.document(first + step // 2)) for first in found]
        offsets += found
    vocabulary = token_windows.vocabulary_digest(tokenizer)
    windows_NL = torch.cat(made)
    if suffix:
        after = torch.tensor(suffix, dtype=windows_NL.dtype).expand(len(windows_NL), len(suffix))
        windows_NL = torch.cat([windows_NL, after], dim=1)
    return Cut(windows_NL, prefix, vocabulary, documents, sources, offsets)


def _counts(
    windows: Windows,
    passages: Sequence[Passage],
    tokens: Sequence[Tokens],
    step: int,
    prefix: tuple[int, ...],
) -> list[int]:
    """How many windows each passage gives."""
    there = [max(0, len(text.ids_T) - windows.skip) // step for text in tokens]
    length, field = windows.length, windows.field
    if windows.at_least is not None or windows.count is None:
        # As many as there are, up to what was asked for.
        total = min(windows.count or sum(there), sum(there))
        longest = max((text.ids_T[windows.skip :] for text in tokens), key=len)
        wanted = windows.at_least or 1
        token_windows.require_windows(sum(there), wanted, longest, length, prefix, field)
        counts = positions.shares([p.share for p in passages], total, there)
        return there if windows.count is None else counts
    unlimited = [windows.count] * len(passages)
    counts = positions.shares([p.share for p in passages], windows.count, unlimited)
    for text, available, count in zip(tokens, there, counts, strict=True):
        wanted = min(count, 1) if windows.sampling == "random" else count
        left_T = text.ids_T[windows.skip :]
        token_windows.require_windows(available, wanted, left_T, length, prefix, field)
    return counts


def _offsets(windows: Windows, tokens: int, step: int, count: int, number: int) -> Tensor:
    """Where windows begin in a passage, behind what is skipped."""
    left = tokens - windows.skip
    if not count:
        return torch.zeros(0, dtype=torch.int64)
    if windows.sampling == "random":
        assert windows.seed is not None
        # Each passage draws by itself; the first one as it would alone.
        return positions.random(left, step, count, (windows.seed + 7919 * number) % 2**63)
    if windows.sampling == "spread":
        return positions.spread(left, step, count)
    return positions.contiguous(step, count)
