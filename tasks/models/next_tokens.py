"""What a model says about each window: its loss, and how far it agrees with the dense model.

Figures are kept by window, so that their sum is the same however windows are batched or shared
among processes. Softmaxes are in float32 whatever the model's dtype, sums in float64. Logits exist
for a bounded number of tokens at a time: on a CPU those of 256 000 words take 100 MB, whatever the
batch.

Agreement is KL(dense ‖ pruned) in nats, with p the dense and q the pruned model's distribution of
the next token, and whether both give the greatest logit to the same token; of equal logits the one
with the lowest id counts as greatest, in both. As p and q both sum to one,

    KL = Σ_v p (ln p − ln q) = Σ_v p (eʳ − 1 − r),  r = ln q − ln p,

of which no term is negative, and an error δ of a logarithm's normaliser costs δ²/2 instead of δ.

Shapes: ``N`` windows, ``B`` of a batch, ``L`` tokens of a window, ``T`` tokens, ``V`` vocabulary,
``X`` states: the hidden size, or ``V`` where a model does not split.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tasks.models.architecture.head import input_device, split_head
from tasks.pruning.core.gates import Loss
from tasks.pruning.core.sequences import predicted, predicting

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOGIT_BYTES = {"cpu": 24 << 20, "cuda": 256 << 20}
"""The most that one model's float32 logits take at once, but for a vocabulary of millions. On a CPU
larger pieces fall out of malloc's reuse, and cost more than they save."""
_PART_BYTES = {"cpu": 1 << 20, "cuda": 64 << 20}
"""Softmaxes and divergences go over parts of that size, which on a CPU stay in its cache."""
_SMALL_RATIO = 0.25
"""Below it, eʳ − 1 − r would lose to rounding what its series keeps."""
_BLOCK_WORDS = 64
_FEWEST_ROWS = 96
"""Fewer at once would wait on the head's weights, as large vocabularies' do."""


@dataclass(frozen=True)
class Halves:
    """A model as the states of a batch and the logits of any of its tokens.

    Attributes:
        states: ``ids_BL`` → ``B × L × X``.
        logits: ``states_TX`` → ``T × V``.
        split: else the states are the logits, which are not bounded: one window at a time.
    """

    states: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor], Tensor]
    split: bool


class Dense(Protocol):
    """Gives the dense model's logits of the windows that are measured."""

    def states(self, first: int, ids_BL: Tensor) -> Tensor:
        """``B·(L−1) × X`` of the windows from the one of number ``first``, where ``logits`` is."""
        ...

    def logits(self, states_TX: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class WindowFigures:
    """
    Attributes:
        nll_N: negative log-likelihood of each window in nats, float64.
        divergence_N: KL divergence summed over each window's predicted tokens, float64.
        agreed_N: in how many of them the greatest logit is the same token's.
        seconds: of the forward passes, losses and comparisons.
    """

    nll_N: Tensor
    divergence_N: Tensor | None
    agreed_N: Tensor | None
    seconds: float


def halves_of(model: PreTrainedModel) -> Halves:
    """``model`` in halves, which share its weights."""
    if parts := split_head(model):
        return Halves(*parts, split=True)
    return Halves(
        lambda ids_BL: model(input_ids=ids_BL, use_cache=False).logits,
        lambda logits_TV: logits_TV,
        split=False,
    )


@torch.inference_mode()
def measure_windows(
    model: PreTrainedModel,
    windows_NL: Tensor,
    *,
    batch_size: int,
    first: int = 0,
    halves: Halves | None = None,
    dense: Dense | None = None,
    keep: Callable[[int, Tensor], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> WindowFigures:
    """Measure ``model`` on each of the windows.

    Args:
        first: number of the first window, where these are some of more.
        halves: of ``model``, where the caller has them.
        dense: what to compare with.
        keep: called with a window's number and the states from it on that predict, ``B × L−1 × X``.
        progress: called with (windows done, windows here).

    Raises:
        ValueError: for no windows, or windows that predict nothing.
    """
    require_predictions(windows_NL)
    halves = halves or halves_of(model)
    device = input_device(model)
    size = batch_size if halves.split else 1
    parts: list[Tensor] = []
    start = time.perf_counter()
    for begin in range(0, len(windows_NL), size):
        ids_BL = windows_NL[begin : begin + size].long().to(device)
        states_BLX = halves.states(ids_BL)[:, :-1]
        if keep:
            keep(first + begin, states_BLX)
        states_TX, dense_TX = states_BLX.flatten(0, 1), None
        if dense:
            dense_TX = dense.states(first + begin, ids_BL)
        figures_TF = _figures(halves, states_TX, ids_BL[:, 1:].flatten(), dense, dense_TX)
        parts.append(figures_TF.view(len(ids_BL), -1, figures_TF.shape[1]).double().sum(1).cpu())
        if progress:
            progress(begin + len(ids_BL), len(windows_NL))
    figures_NF = torch.cat(parts)
    return WindowFigures(
        figures_NF[:, 0],
        figures_NF[:, 1] if dense else None,
        figures_NF[:, 2].round().long() if dense else None,
        time.perf_counter() - start,
    )


def require_predictions(windows_NL: Tensor) -> None:
    """
    Raises:
        ValueError: for no windows, or windows that predict nothing.
    """
    if windows_NL.ndim != 2 or windows_NL.shape[0] < 1 or windows_NL.shape[1] < 2:
        raise ValueError(f"no token to predict in windows of shape {tuple(windows_NL.shape)}")


def token_losses(halves: Halves, states_TX: Tensor, targets_T: Tensor) -> Tensor:
    """Negative log-likelihood of each token in nats, float32, without all logits at once."""
    return _figures(halves, states_TX, targets_T, None, None)[:, 0]


def mean_loss(model: PreTrainedModel) -> Loss:
    """A function of windows that gives the mean negative log-likelihood of a predicted token.

    The model is split once, and logits are bounded. What changes inside the model's modules between
    calls (hooks, weights) counts.
    """
    halves = halves_of(model)
    device = input_device(model)

    def loss(windows_NL: Tensor, counted_NL: Tensor | None = None) -> Tensor:
        ids_NL = windows_NL.long().to(device)
        states_TX = predicting(halves.states(ids_NL), counted_NL)
        return token_losses(halves, states_TX, predicted(ids_NL, counted_NL)).double().mean()

    return loss


def _figures(
    halves: Halves,
    states_TX: Tensor,
    targets_T: Tensor,
    dense: Dense | None,
    dense_TX: Tensor | None,
) -> Tensor:
    """``T × 1``: losses; with ``dense`` ``T × 3``: losses, divergences, agreements."""
    chunk = _rows_at_once(halves.logits(states_TX[:1]), _LOGIT_BYTES, _FEWEST_ROWS)
    rows: list[Tensor] = []
    for begin in range(0, len(states_TX), chunk):
        logits_TV = halves.logits(states_TX[begin : begin + chunk])
        chunk_targets_T = targets_T[begin : begin + chunk].to(logits_TV.device)
        part = _rows_at_once(logits_TV[:1], _PART_BYTES, 1)
        parts = [logits_TV.split(part), chunk_targets_T.split(part)]
        if dense is None or dense_TX is None:
            rows += map(_losses, *parts)
        else:
            dense_TV = dense.logits(dense_TX[begin : begin + chunk]).to(logits_TV.device)
            rows += map(_compared, parts[0], dense_TV.split(part), parts[1])
    return torch.cat(rows)


def _rows_at_once(logits_1V: Tensor, limits: dict[str, int], fewest: int) -> int:
    limit = limits.get(logits_1V.device.type, limits["cuda"])
    return max(fewest, limit // (4 * logits_1V.shape[-1]))


def _losses(logits_TV: Tensor, targets_T: Tensor) -> Tensor:
    """``T × 1``."""
    losses_T = functional.cross_entropy(logits_TV.float(), targets_T, reduction="none")
    return losses_T[:, None]


def _compared(logits_TV: Tensor, dense_TV: Tensor, targets_T: Tensor) -> Tensor:
    """``T × 3``: losses, divergences, agreements."""
    if logits_TV.shape != dense_TV.shape:
        raise ValueError(
            f"the dense model gives {dense_TV.shape[-1]} logits and this one {logits_TV.shape[-1]}"
        )
    # Several kernels are many times slower on bfloat16 than this copy is.
    given_TV, wanted_TV = logits_TV.float(), dense_TV.float()
    given_T, q_TV, given_top_T = _normalised(given_TV)
    wanted_T, p_TV, wanted_top_T = _normalised(wanted_TV)
    losses_T = given_T - given_TV.gather(-1, targets_T[:, None])[:, 0]
    ratio_TV = (given_TV - wanted_TV).sub_((given_T - wanted_T).float()[:, None])
    terms_TV = _terms(p_TV, q_TV, ratio_TV)
    divergence_T = terms_TV.sum(-1)
    if divergence_T.isnan().any():
        # A token that both models exclude has no part in the divergence.
        divergence_T = terms_TV.masked_fill_((p_TV == 0) & (q_TV == 0), 0.0).sum(-1)
    agreed_T = given_top_T == wanted_top_T
    return torch.stack([losses_T, divergence_T.double(), agreed_T.double()], dim=1)


def _terms(p_TV: Tensor, q_TV: Tensor, ratio_TV: Tensor) -> Tensor:
    """p (eʳ − 1 − r) to a few units of float32, where r is small and where it is not."""
    # The next term of the series is less than a millionth of the sum.
    series_TV = ratio_TV.mul(1 / 720).add_(1 / 120)
    for coefficient in (1 / 24, 1 / 6, 1 / 2):
        series_TV.mul_(ratio_TV).add_(coefficient)
    series_TV.mul_(ratio_TV).mul_(ratio_TV).mul_(p_TV)
    # Above r = 104, as q is at most 1, p is 0 in float32, and q is all of the term.
    closed_TV = ratio_TV.clamp(max=200.0).add_(1.0).mul_(p_TV).neg_().add_(q_TV)
    return torch.where(ratio_TV.abs_() < _SMALL_RATIO, series_TV, closed_TV)


def _normalised(logits_TV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(ln Σ exp in float64, softmax, token with the greatest logit, the first of equal ones)."""
    probability_TV = logits_TV.softmax(dim=-1)
    # By blocks: the greatest of many is found ten times faster without its place.
    width = math.gcd(logits_TV.shape[-1], _BLOCK_WORDS)
    blocks_TNW = logits_TV.unflatten(-1, (-1, width))
    block_T1 = blocks_TNW.amax(dim=-1).argmax(dim=-1, keepdim=True)
    within_TW = blocks_TNW.take_along_dim(block_T1[:, :, None], dim=1)[:, 0]
    top_T1 = block_T1 * width + within_TW.argmax(dim=-1, keepdim=True)
    greatest_T, share_T = (x.gather(-1, top_T1)[:, 0].double() for x in (logits_TV, probability_TV))
    return greatest_T - share_T.log(), probability_TV, top_T1[:, 0]
