"""From text to windows of tokens, and their file.

Shapes: ``T`` tokens of the corpus, ``N`` windows, ``L`` tokens of a window.

Where a tokenizer puts tokens before every text by default, as LLaMA-2's puts BOS and GPT-2's does
not, the model was trained to see them: then each window is these ``P`` tokens and ``L − P`` of the
corpus.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.errors import ConfigurationError
from tasks.data.completions import Span, tokens_in
from tasks.models.files import share
from tasks.selection import positions

_NAME, _COUNTED = "windows", "counted"
_LIMITS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length",
    "max_target_positions", "n_ctx", "context_length",
)  # fmt: skip
"""How configurations call the number of positions that a model knows."""
_AFTER_PADDING = (
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "camembert",
    "data2vec-text", "ibert", "longformer", "luke", "esm", "lilt", "layoutlmv3", "markuplm",
    "mpnet", "xmod",
)  # fmt: skip
"""Types of models whose positions are counted from behind the padding token's number."""


@dataclass(frozen=True)
class Tokens:
    """A text's tokens, and where its documents lie among them.

    Attributes:
        ids_T: int64, without special tokens.
        starts, ends: of the documents, in characters of the text.
        character: token's index → its first character; None for tokenizers that do not say.
        counted_T: bool, tokens that learning counts; None: all.
    """

    ids_T: Tensor
    starts: Sequence[int] = ()
    ends: Sequence[int] = ()
    character: Callable[[int], int] | None = None
    counted_T: Tensor | None = None

    def documents(self, bounds: Iterable[tuple[int, int]]) -> dict[str, int]:
        """How many documents windows touch, and how many do not lie in one window as a whole.

        Args:
            bounds: of the windows, as half-open ranges of tokens.
        """
        if self.character is None:
            return {}
        touched: set[int] = set()
        cut: set[int] = set()
        for first, last in bounds:
            begin = self.character(first)
            end = self.character(last) if last < len(self.ids_T) else self.ends[-1]
            for index in range(bisect_right(self.ends, begin), bisect_left(self.starts, end)):
                touched.add(index)
                if self.starts[index] < begin or self.ends[index] > end:
                    cut.add(index)
        return {"documents": len(touched), "documents_cut": len(cut)}

    def document(self, token: int) -> int | None:
        """Which document a token is of; None for tokenizers that do not say."""
        if self.character is None:
            return None
        return min(bisect_right(self.ends, self.character(token)), len(self.ends) - 1)


def tokenise(
    tokenizer: Any,
    documents: Sequence[str],
    separator: str = "",
    counted: Sequence[Span] | None = None,
) -> Tokens:
    """All documents in one call, joined, without special tokens.

    Args:
        counted: characters of the joined text whose tokens count; None: all.

    Raises:
        ValueError: only some count, and the tokenizer does not say where its tokens lie.
    """
    text = separator.join(documents)
    # verbose=False: that the text is longer than a window is no news.
    encoded = tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)
    ids_T = torch.tensor(encoded["input_ids"], dtype=torch.int64)
    if not getattr(encoded, "is_fast", False):
        if counted is not None:
            raise ValueError("the model's tokenizer does not say where in a text its tokens lie")
        return Tokens(ids_T)
    lengths = [len(document) for document in documents]
    ends = [end + index * len(separator) for index, end in enumerate(itertools.accumulate(lengths))]
    starts = [end - length for end, length in zip(ends, lengths, strict=True)]

    def character(index: int) -> int:
        span = encoded.token_to_chars(0, index)
        return span.start if span else 0

    counted_T = None if counted is None else tokens_in(counted, encoded[0].offsets)
    return Tokens(ids_T, starts, ends, character, counted_T)


def prefix_tokens(tokenizer: Any) -> tuple[int, ...]:
    """The ids that the tokenizer puts before every text by default, such as BOS."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    for length in range(1, len(whole) - len(plain) + 1):
        if plain and whole[length : length + len(plain)] == plain:
            return tuple(whole[:length])
    # Some write the first word otherwise where something stands before it: what is there then is
    # no word, one token or several.
    words = set(plain)
    special = set(tokenizer.all_special_ids) - words
    before = tuple(itertools.takewhile(special.__contains__, whole))
    return before if words else before[:1]


def suffix_tokens(tokenizer: Any) -> tuple[int, ...]:
    """The ids that the tokenizer puts after every text by default, such as BERT's [SEP]."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    after = len(whole) - len(prefix_tokens(tokenizer)) - len(plain)
    return tuple(whole[len(whole) - after :]) if after > 0 else ()


def vocabulary_digest(tokenizer: Any) -> str:
    """SHA-256 of what the tokenizer calls each token: two that differ count perplexity otherwise.

    Merges and normalisation are not in it; where they alone differ, the windows do.
    """
    named = sorted((token, number) for token, number in tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def contiguous_windows(
    tokens_T: Tensor, length: int, count: int | None, prefix: Sequence[int], *, field: str
) -> Tensor:
    """Consecutive windows without overlap, from the start.

    Args:
        length: tokens of a window, the prefix included.
        count: how many; None: all that are full.
        prefix: see :func:`prefix_tokens`.
        field: dotted path of what asks for them, for messages.

    Returns:
        ``N × L``, int32.

    Raises:
        ConfigurationError: the corpus is too short.
    """
    step = text_step(length, prefix, field)
    available = len(tokens_T) // step
    require_windows(available, count or 1, tokens_T, length, prefix, field)
    offsets_N = positions.contiguous(step, available if count is None else count)
    return windows_at(tokens_T, offsets_N, step, prefix)


def windows_at(tokens_T: Tensor, offsets_N: Tensor, step: int, prefix: Sequence[int]) -> Tensor:
    """The windows that begin at the offsets, each behind the prefix: ``N × L``, int32."""
    body_NS = tokens_T[offsets_N[:, None] + torch.arange(step)].to(torch.int32)
    before_NP = torch.tensor(prefix, dtype=torch.int32).expand(len(body_NS), len(prefix))
    return torch.cat([before_NP, body_NS], dim=1)


def check_length(config: Any, length: int, field: str) -> None:
    """Refuse windows longer than the positions that the model knows.

    Args:
        config: the model's configuration; where it names no limit, any length will do.

    Raises:
        ConfigurationError: with the longest window that is possible.
    """
    longest = positions_of(config)
    if longest is not None and longest < length:
        raise ConfigurationError(
            field, length, f"the model takes windows of at most {longest} tokens"
        )


def positions_of(config: Any) -> int | None:
    """How many tokens a model takes at once; None where its configuration names no limit."""
    longest = text_setting(config, *_LIMITS)
    if longest is not None and getattr(config, "model_type", "") in _AFTER_PADDING:
        return longest - (config.pad_token_id or 0) - 1
    return longest


def text_setting(config: Any, *names: str) -> int | None:
    """The first positive number that a configuration's text part has under one of ``names``."""
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    values = (getattr(text, name, None) for name in names)
    return next((value for value in values if type(value) is int and value > 0), None)


def check_vocabulary(
    windows_NL: Tensor, rows: int | None, tokenizer: Any, *, field: str, given: str, text: str
) -> None:
    """Refuse tokens beyond the rows of the model's embedding.

    A tokenizer may know more tokens than the model, such as a sign for images: only those that the
    text holds matter.

    Args:
        rows: of the embedding; None where that is not known.
        field, given: of the model, for messages.
        text: what the windows are cut from, in a word.

    Raises:
        ConfigurationError: with the token.
    """
    largest = int(windows_NL.max())
    if rows is not None and largest >= rows:
        token = tokenizer.convert_ids_to_tokens(largest)
        raise ConfigurationError(
            field,
            given,
            f"its tokenizer makes token {largest} ({token!r}) of the {text} text, and the model's "
            f"embedding ends at {rows - 1}: tokenizer and weights do not belong together",
            "Take the model's own tokenizer, or resize its embedding",
        )


def save_windows(
    path: Path,
    windows_NL: Tensor,
    metadata: Mapping[str, str],
    counted_NL: Tensor | None = None,
) -> None:
    """Write windows as int32 safetensors, and which of their tokens count, where not all do."""
    from safetensors.torch import save_file

    tensors = {_NAME: windows_NL.to(torch.int32).contiguous()}
    if counted_NL is not None:
        tensors[_COUNTED] = counted_NL.to(torch.bool).contiguous()
    save_file(tensors, path, metadata=dict(metadata))
    share(path)


def load_windows(path: Path) -> Tensor:
    """The windows of a file that :func:`save_windows` wrote: ``N × L``, int32."""
    from safetensors.torch import load_file

    return load_file(path)[_NAME]


def load_counted(path: Path) -> Tensor | None:
    """Which tokens of a file's windows count, ``N × L``, bool; None: all."""
    from safetensors.torch import load_file

    return load_file(path).get(_COUNTED)


def text_step(length: int, prefix: Sequence[int], field: str) -> int:
    """Tokens of the corpus in each window.

    Raises:
        ConfigurationError: the prefix alone fills a window.
    """
    if length <= len(prefix):
        raise ConfigurationError(
            f"{field}.sequence_length",
            length,
            f"the tokenizer puts {len(prefix)} tokens before every text: windows are longer",
        )
    return length - len(prefix)


def require_windows(
    available: int,
    wanted: int,
    tokens_T: Tensor,
    length: int,
    prefix: Sequence[int],
    field: str,
    *,
    counted: bool = False,
    asked: int | None = None,
    part: str = "",
) -> None:
    """Refuse to cut more windows than a corpus makes.

    Args:
        field: dotted path of what asks for them.
        counted: whether these are windows with tokens of a completion alone.
        asked: what the field holds, where that is another number than ``wanted``; 0: nothing.
        part: of several, the one that makes too few, in words.

    Raises:
        ConfigurationError: with how many there are.
    """
    if available < wanted:
        before = f" ({len(prefix)} of them the tokenizer's prefix)" if prefix else ""
        before += " in which a completion is predicted" if counted else ""
        raise ConfigurationError(
            field,
            (wanted if asked is None else asked) or ...,
            f"{part or 'the corpus'} has {len(tokens_T):,} tokens, which make {available:,} "
            f"windows of {length:,} tokens{before}",
            "Ask for fewer or shorter windows, or give more text",
        )
