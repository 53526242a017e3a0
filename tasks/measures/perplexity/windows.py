"""What a model says about each window: its loss, and how far it agrees with the dense model.

Figures are kept by window, so that their sum is the same however windows are batched or shared
among processes. Softmaxes are in float32 whatever the model's dtype, sums in float64. Logits exist
for a bounded number of tokens at a time, so a vocabulary of 256 000 words costs no more memory than
one of 1 000.

Agreement is KL(dense ‖ pruned) = Σ_v p(v) (ln p(v) − ln q(v)) in nats with p the dense and q the
pruned model's distribution of the next token, and whether both give the greatest logit to the same
token; of equal logits the one with the lowest id counts as greatest, in both.

Shapes: ``N`` windows, ``B`` of a batch, ``L`` tokens of a window, ``T`` tokens, ``V`` vocabulary,
``X`` states: the hidden size, or ``V`` where a model does not split.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tasks.models.architecture.head import input_device, split_head

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOGIT_BYTES = {"cpu": 24 << 20, "cuda": 256 << 20}
"""The most that one model's float32 logits take at once, but for a vocabulary of millions. On a CPU
larger pieces fall out of the cache and of malloc's reuse, and cost more than they save."""
_FEWEST_ROWS = 16
"""Fewer than these at once would wait on the head's weights."""


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
        """``B·(L−1) × X`` of the windows from the one of number ``first``."""
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
            dense_TX = dense.states(first + begin, ids_BL).to(states_TX.device)
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


def _figures(
    halves: Halves,
    states_TX: Tensor,
    targets_T: Tensor,
    dense: Dense | None,
    dense_TX: Tensor | None,
) -> Tensor:
    """``T × 1``: losses; with ``dense`` ``T × 3``: losses, divergences, agreements."""
    chunk = _rows_at_once(halves.logits(states_TX[:1]))
    rows: list[Tensor] = []
    for begin in range(0, len(states_TX), chunk):
        logits_TV = halves.logits(states_TX[begin : begin + chunk])
        chunk_targets_T = targets_T[begin : begin + chunk].to(logits_TV.device)
        if dense is None or dense_TX is None:
            rows.append(_losses(logits_TV, chunk_targets_T)[:, None])
        else:
            dense_TV = dense.logits(dense_TX[begin : begin + chunk])
            rows.append(_compared(logits_TV, dense_TV.to(logits_TV.device), chunk_targets_T))
    return torch.cat(rows)


def _rows_at_once(logits_1V: Tensor) -> int:
    limit = _LOGIT_BYTES.get(logits_1V.device.type, _LOGIT_BYTES["cuda"])
    return max(_FEWEST_ROWS, limit // (4 * logits_1V.shape[-1]))


def _losses(logits_TV: Tensor, targets_T: Tensor) -> Tensor:
    return functional.cross_entropy(logits_TV.float(), targets_T, reduction="none")


def _compared(logits_TV: Tensor, dense_TV: Tensor, targets_T: Tensor) -> Tensor:
    """``T × 3``: losses, divergences, agreements; divergences are right to about 1e-7 nats."""
    if logits_TV.shape != dense_TV.shape:
        raise ValueError(
            f"the dense model gives {dense_TV.shape[-1]} logits and this one {logits_TV.shape[-1]}"
        )
    # Several kernels are many times slower on bfloat16 than this copy is.
    given_TV, wanted_TV = logits_TV.float(), dense_TV.float()
    given_T, _, given_top_T = _normalised(given_TV)
    wanted_T, probability_TV, wanted_top_T = _normalised(wanted_TV)
    losses_T = given_T - given_TV.gather(-1, targets_T[:, None])[:, 0]
    # Σ p (ln p − ln q) = Σ p (a − b) − (ln Σ exp a − ln Σ exp b) for logits a and b.
    terms_TV = (wanted_TV - given_TV).mul_(probability_TV)
    apart_T = terms_TV.sum(-1)
    if apart_T.isnan().any():
        # A token that the dense model excludes has no part in the divergence: 0 · ln 0 = 0.
        apart_T = terms_TV.masked_fill_(wanted_TV.isneginf(), 0.0).sum(-1)
    divergence_T = apart_T - (wanted_T - given_T)
    return torch.stack([losses_T, divergence_T, (given_top_T == wanted_top_T).double()], dim=1)


def _normalised(logits_TV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(ln Σ exp in float64, softmax, token with the greatest logit, the first of equal ones)."""
    probability_TV = logits_TV.softmax(dim=-1)
    greatest_T, top_T = logits_TV.max(dim=-1)
    share_T = probability_TV.gather(-1, top_T[:, None])[:, 0]
    return greatest_T.double() - share_T.double().log(), probability_TV, top_T
