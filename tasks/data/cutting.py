"""A text cut into windows of tokens, and where each of them lies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from configs.errors import ConfigurationError
from tasks.data import windows as token_windows
from tasks.data.completions import places, spans_of
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
        counted_NL: bool, which tokens learning counts; None: all.
    """

    windows_NL: Tensor
    prefix: tuple[int, ...]
    vocabulary: str
    documents: Mapping[str, int]
    sources: Sequence[str]
    offsets: Sequence[int]
    counted_NL: Tensor | None = None

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
    tokens = [_tokens(windows, p, tokenizer, before, given) for p in passages]
    counts = _counts(windows, passages, tokens, step, (*prefix, *suffix))
    made: list[Tensor] = []
    counted: list[Tensor] = []
    sources: list[str] = []
    offsets: list[int] = []
    documents: Counter[str] = Counter()
    for number, (passage, text, count) in enumerate(zip(passages, tokens, counts, strict=True)):
        offsets_N = windows.skip + _offsets(windows, text, step, count, number, bool(prefix))
        made.append(token_windows.windows_at(text.ids_T, offsets_N, step, prefix))
        counted.append(_counted_at(text, offsets_N, step, len(prefix)))
        found = offsets_N.tolist()
        documents.update(text.documents((first, first + step) for first in found))
        sources += [passage.source(text.document(first + step // 2)) for first in found]
        offsets += found
    vocabulary = token_windows.vocabulary_digest(tokenizer)
    order = _in_turn(counts)
    sources, offsets = [sources[n] for n in order], [offsets[n] for n in order]
    windows_NL = torch.cat(made)[order]
    if suffix:
        after = torch.tensor(suffix, dtype=windows_NL.dtype).expand(len(windows_NL), len(suffix))
        windows_NL = torch.cat([windows_NL, after], dim=1)
    counted_NL = torch.cat(counted)[order] if windows.counted else None
    assert counted_NL is None or not suffix, "an encoder predicts no completion"
    return Cut(windows_NL, prefix, vocabulary, documents, sources, offsets, counted_NL)


def _tokens(windows: Windows, passage: Passage, tokenizer: Any, before: str, given: str) -> Tokens:
    """A passage's tokens, and which of them count where learning counts some alone."""
    said = {"field": f"{windows.field}.corpus", "given": given}
    texts = rendered(passage.documents, tokenizer, before, **said)
    if not windows.counted or passage.loss == "all":
        return token_windows.tokenise(tokenizer, texts, passage.separator)
    spans = spans_of(passage.documents, texts, passage.separator, tokenizer, before, **said)
    try:
        return token_windows.tokenise(tokenizer, texts, passage.separator, spans)
    except ValueError as error:
        raise ConfigurationError(f"{said['field']}.loss", passage.loss, str(error)) from error


def _counted_at(text: Tokens, offsets_N: Tensor, step: int, prefix: int) -> Tensor:
    """Which tokens of windows count, ``N × L``; of those before them, where all do."""
    if text.counted_T is None:
        return torch.ones((len(offsets_N), prefix + step), dtype=torch.bool)
    body_NS = text.counted_T[offsets_N[:, None] + torch.arange(step)]
    return torch.cat([torch.zeros((len(offsets_N), prefix), dtype=torch.bool), body_NS], dim=1)


def _places(windows: Windows, text: Tokens, step: int, *, prefixed: bool) -> Tensor | None:
    """Where windows may begin behind what is skipped, if not all of them count."""
    if text.counted_T is None:
        return None
    every = 1 if windows.sampling == "random" else step
    return places(text.counted_T[windows.skip :], step, every=every, predicted=0 if prefixed else 1)


def _counts(
    windows: Windows,
    passages: Sequence[Passage],
    tokens: Sequence[Tokens],
    step: int,
    prefix: tuple[int, ...],
) -> list[int]:
    """How many windows each passage gives."""
    there = [
        max(0, len(text.ids_T) - windows.skip) // step if places_N is None else len(places_N)
        for text in tokens
        for places_N in [_places(windows, text, step, prefixed=bool(prefix))]
    ]
    length, field, shares = windows.length, windows.count_field, [p.share for p in passages]
    if windows.at_least is not None:  # a pool: a part takes what another cannot give
        longest_T = max((text.ids_T[windows.skip :] for text in tokens), key=len)
        token_windows.require_windows(
            sum(there), windows.at_least, longest_T, length, prefix, field, counted=windows.counted
        )
        return positions.shares(shares, min(windows.count or sum(there), sum(there)), there)
    if windows.count is None:
        counts, least = positions.shares(shares, _most(there, shares), there), 1
    else:
        counts = positions.shares(shares, windows.count, [windows.count] * len(passages))
        least = 0
    for number, (text, available, count) in enumerate(zip(tokens, there, counts, strict=True)):
        token_windows.require_windows(
            available,
            max(least, min(count, 1) if windows.sampling == "random" else count),
            text.ids_T[windows.skip :],
            length,
            prefix,
            field,
            counted=text.counted_T is not None,
            asked=windows.count or 0,
            part=f"part {number + 1} of the corpus" if len(passages) > 1 else "",
        )
    return counts


def _most(there: Sequence[int], shares: Sequence[float]) -> int:
    """The most windows whose parts have their shares, of as many as each part gives."""
    whole = sum(shares)
    return min(
        int(count * whole / share + 1e-9) for count, share in zip(there, shares, strict=True)
    )


def _in_turn(counts: Sequence[int]) -> list[int]:
    """An order in which every stretch of windows has about the shares of the whole.

    Methods and measures that look at some take the first or hold back the last.
    """
    places = [(number + 0.5) / count for count in counts for number in range(count)]
    return sorted(range(len(places)), key=lambda index: places[index])


def _offsets(
    windows: Windows, text: Tokens, step: int, count: int, number: int, prefixed: bool
) -> Tensor:
    """Where windows begin in a passage, behind what is skipped."""
    if not count:
        return torch.zeros(0, dtype=torch.int64)
    places_N = _places(windows, text, step, prefixed=prefixed)
    left = len(text.ids_T) - windows.skip
    if places_N is not None:  # positions are then numbers of these
        left, step = len(places_N), 1
    if windows.sampling == "random":
        assert windows.seed is not None
        # Each passage draws by itself; the first one as it would alone.
        found_N = positions.random(left, step, count, (windows.seed + 7919 * number) % 2**63)
    elif windows.sampling == "spread":
        found_N = positions.spread(left, step, count)
    else:
        found_N = positions.contiguous(step, count)
    return found_N if places_N is None else places_N[found_N]
