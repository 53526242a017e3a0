"""Perplexity: exp(total negative log-likelihood / total predicted tokens).

Windows follow each other without overlap; in each, every token after the first is predicted.
Logits and their softmax are in float32 whatever the model's dtype, sums in float64, and a NaN is an
error. Logits exist for a bounded number of tokens at a time, so a vocabulary of 256 000 words costs
no more memory than one of 1 000.

Shapes: ``N`` windows, ``L`` tokens of a window, ``H`` hidden size, ``V`` vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from tasks.models.head import split_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOGIT_BYTES = 128 << 20
"""The most that float32 logits may take at once."""


@dataclass(frozen=True)
class PerplexityResult:
    """
    Attributes:
        perplexity: inf where the mean loss is too large for a float's exponential.
        nll: total negative log-likelihood in nats.
        tokens: how many tokens were predicted.
        seconds: of the forward passes and losses.
    """

    perplexity: float
    nll: float
    tokens: int
    seconds: float


@torch.inference_mode()
def perplexity(
    model: PreTrainedModel,
    windows_NL: Tensor,
    *,
    batch_size: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> PerplexityResult:
    """Perplexity of a causal language model; independent of ``batch_size``.

    Args:
        model: as transformers loads it, in eval mode.
        windows_NL: token ids, at least one window of at least two tokens.
        progress: called with (windows done, windows in all).

    Raises:
        ValueError: for no windows, or windows that predict nothing.
        FloatingPointError: when the loss is NaN.
    """
    if windows_NL.ndim != 2 or windows_NL.shape[0] < 1 or windows_NL.shape[1] < 2:
        raise ValueError(f"no token to predict in windows of shape {tuple(windows_NL.shape)}")
    device = next(model.parameters()).device
    parts = split_head(model)
    start = time.perf_counter()
    total = torch.zeros((), dtype=torch.float64)
    for first in range(0, len(windows_NL), batch_size if parts else 1):
        batch_BL = windows_NL[first : first + (batch_size if parts else 1)].long().to(device)
        if parts:
            loss = _chunked_loss(*parts, batch_BL)
        else:
            logits_TV = model(input_ids=batch_BL, use_cache=False).logits[0, :-1]
            loss = _loss(logits_TV, batch_BL[0, 1:])
        total += loss.cpu()
        if progress:
            progress(min(first + len(batch_BL), len(windows_NL)), len(windows_NL))
    nll, tokens = float(total), windows_NL.shape[0] * (windows_NL.shape[1] - 1)
    if math.isnan(nll):
        raise FloatingPointError("the loss is NaN: the model's weights or activations overflow")
    return PerplexityResult(_exp(nll / tokens), nll, tokens, time.perf_counter() - start)


def mean_loss(model: PreTrainedModel) -> Callable[[Tensor], Tensor]:
    """A function of windows that gives the mean negative log-likelihood of a predicted token.

    The model is split once; logits are bounded as in :func:`perplexity`. What changes inside the
    model's modules between calls (hooks, weights) counts.
    """
    parts = split_head(model)
    device = next(model.parameters()).device

    def loss(windows_NL: Tensor) -> Tensor:
        ids_NL = windows_NL.long().to(device)
        if parts:
            total = _chunked_loss(*parts, ids_NL)
        else:
            logits_TV = model(input_ids=ids_NL, use_cache=False).logits[:, :-1].flatten(0, 1)
            total = _loss(logits_TV, ids_NL[:, 1:].flatten())
        return total / (ids_NL.shape[0] * (ids_NL.shape[1] - 1))

    return loss


def _exp(mean: float) -> float:
    try:
        return math.exp(mean)
    except OverflowError:
        return math.inf


def _loss(logits_TV: Tensor, targets_T: Tensor) -> Tensor:
    losses_T = functional.cross_entropy(logits_TV.float(), targets_T, reduction="none")
    return losses_T.double().sum()


def _chunked_loss(
    body: Callable[[Tensor], Tensor], head: Callable[[Tensor], Tensor], batch_BL: Tensor
) -> Tensor:
    hidden_TH = body(batch_BL)[:, :-1].flatten(0, 1)
    targets_T = batch_BL[:, 1:].flatten()
    vocabulary = head(hidden_TH[:1]).shape[-1]
    chunk = max(1, _LOGIT_BYTES // (4 * vocabulary))
    total = torch.zeros((), dtype=torch.float64, device=batch_BL.device)
    for hidden, targets in zip(hidden_TH.split(chunk), targets_T.split(chunk), strict=True):
        total += _loss(head(hidden), targets)
    return total
