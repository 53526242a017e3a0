"""From text to windows of tokens, and their file.

Shapes: ``T`` tokens of the corpus, ``N`` windows, ``L`` tokens of a window.

Where a tokenizer puts a BOS token before every text by default, as LLaMA-2's does and GPT-2's does
not, the model was trained to see it: then each window is BOS and ``L − 1`` tokens of the corpus.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.errors import ConfigurationError
from tasks.models.files import share

_NAME = "windows"
_LIMITS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length",
    "max_target_positions", "n_ctx", "context_length",
)  # fmt: skip
"""How configurations call the number of positions that a model knows."""


def tokenise(tokenizer: Any, text: str) -> Tensor:
    """All of ``text`` in one call, without special tokens.

    Returns:
        ``T`` token ids, int64.
    """
    # verbose=False: that the text is longer than a window is no news.
    encoded = tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)
    return torch.tensor(encoded["input_ids"], dtype=torch.int64)


def wants_bos(tokenizer: Any) -> int | None:
    """The BOS id, if the tokenizer puts one before every text by default."""
    bos = tokenizer.bos_token_id
    with_special = tokenizer("a")["input_ids"]
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    prepends = with_special[:1] == [bos] and plain[:1] != [bos]
    return bos if bos is not None and prepends else None


def vocabulary_digest(tokenizer: Any) -> str:
    """SHA-256 of what the tokenizer calls each token: two that differ count perplexity otherwise.

    Merges and normalisation are not in it; where they alone differ, the windows do.
    """
    named = sorted((token, number) for token, number in tokenizer.get_vocab().items())
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def contiguous_windows(
    tokens_T: Tensor, length: int, count: int | None, bos: int | None, *, field: str
) -> Tensor:
    """Consecutive windows without overlap, from the start.

    Args:
        length: tokens of a window, BOS included.
        count: how many; None: all that are full.
        bos: see :func:`wants_bos`.
        field: dotted path of what asks for them, for messages.

    Returns:
        ``N × L``, int32.

    Raises:
        ConfigurationError: the corpus is too short.
    """
    step = _step(length, bos)
    available = len(tokens_T) // step
    _require(available, count or 1, tokens_T, length, bos, field)
    windows = available if count is None else count
    body = tokens_T[: windows * step].reshape(windows, step)
    return _with_bos(body, bos)


def random_windows(
    tokens_T: Tensor, length: int, count: int, seed: int, bos: int | None, *, field: str
) -> Tensor:
    """Windows at offsets drawn independently and uniformly from all where a full one begins.

    They may overlap. The generator runs on the CPU, so that a seed means the same everywhere.

    Returns:
        ``N × L``, int32.

    Raises:
        ConfigurationError: the corpus is shorter than one window.
    """
    step = _step(length, bos)
    _require(len(tokens_T) // step, 1, tokens_T, length, bos, field)
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.randint(len(tokens_T) - step + 1, (count,), generator=generator)
    return _with_bos(tokens_T[offsets[:, None] + torch.arange(step)], bos)


def check_length(config: Any, length: int, field: str) -> None:
    """Refuse windows longer than the positions that the model knows.

    Args:
        config: the model's configuration; where it names no limit, any length will do.

    Raises:
        ConfigurationError: with the longest window that is possible.
    """
    longest = text_setting(config, *_LIMITS)
    if longest is not None and longest < length:
        raise ConfigurationError(
            field, length, f"the model takes windows of at most {longest} tokens"
        )


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


def save_windows(path: Path, windows_NL: Tensor, metadata: Mapping[str, str]) -> None:
    """Write windows as int32 safetensors."""
    from safetensors.torch import save_file

    tensors = {_NAME: windows_NL.to(torch.int32).contiguous()}
    save_file(tensors, path, metadata=dict(metadata))
    share(path)


def load_windows(path: Path) -> Tensor:
    """The windows of a file that :func:`save_windows` wrote: ``N × L``, int32."""
    from safetensors.torch import load_file

    return load_file(path)[_NAME]


def _step(length: int, bos: int | None) -> int:
    """Tokens of the corpus in each window."""
    return length if bos is None else length - 1


def _with_bos(body: Tensor, bos: int | None) -> Tensor:
    body = body.to(torch.int32)
    if bos is None:
        return body.contiguous()
    return torch.cat([torch.full((len(body), 1), bos, dtype=torch.int32), body], dim=1)


def _require(
    available: int, wanted: int, tokens_T: Tensor, length: int, bos: int | None, field: str
) -> None:
    if available < wanted:
        with_bos = " (BOS included)" if bos is not None else ""
        raise ConfigurationError(
            field,
            wanted,
            f"the corpus has {len(tokens_T):,} tokens, which make {available:,} windows "
            f"of {length:,} tokens{with_bos}",
            "Ask for fewer or shorter windows, or give more text",
        )
