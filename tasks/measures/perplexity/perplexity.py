"""Perplexity: exp(total negative log-likelihood / total predicted tokens).

Windows follow each other without overlap; in each, every token after the first is predicted. How a
window's loss is computed is in :mod:`tasks.models.next_tokens`; a NaN is an error.

Shapes: ``N`` windows, ``L`` tokens of a window.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from tasks.models.next_tokens import WindowFigures, measure_windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PerplexityResult:
    """
    Attributes:
        perplexity: inf where the mean loss is too large for a float's exponential.
        nll: total negative log-likelihood in nats.
        tokens: how many tokens were predicted.
        seconds: of the forward passes and losses.
        kl: mean KL(dense ‖ this) of a predicted token in nats; None where nothing was compared.
        top1_agreement: share of predicted tokens whose greatest logit is the dense model's.
    """

    perplexity: float
    nll: float
    tokens: int
    seconds: float
    kl: float | None = None
    top1_agreement: float | None = None


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
    figures = measure_windows(model, windows_NL, batch_size=batch_size, progress=progress)
    return result_of(figures, windows_NL)


def result_of(figures: WindowFigures, windows_NL: Tensor) -> PerplexityResult:
    """The totals of all windows; the same in whichever order they were measured.

    Raises:
        FloatingPointError: when the loss, or the divergence, is NaN.
    """
    tokens = windows_NL.shape[0] * (windows_NL.shape[1] - 1)
    nll = math.fsum(figures.nll_N.tolist())
    if math.isnan(nll):
        raise FloatingPointError("the loss is NaN: the model's weights or activations overflow")
    kl = agreement = None
    if figures.divergence_N is not None and figures.agreed_N is not None:
        kl = math.fsum(figures.divergence_N.tolist()) / tokens
        if math.isnan(kl):
            raise FloatingPointError("the divergence is NaN: the dense model's logits overflow")
        agreement = int(figures.agreed_N.sum()) / tokens
    return PerplexityResult(_exp(nll / tokens), nll, tokens, figures.seconds, kl, agreement)


def _exp(mean: float) -> float:
    try:
        return math.exp(mean)
    except OverflowError:
        return math.inf
