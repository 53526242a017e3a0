"""Cross-entropy with knowledge distillation, in bounded memory.

Of a token with student logits z, teacher logits t and next token y, at temperature T,

    loss = (1−α)·CE(z, y) + α·T²·KL(softmax(t/T) ‖ softmax(z/T))
    ∂loss/∂z = (1−α)(softmax(z) − onehot(y)) + αT(softmax(z/T) − softmax(t/T))

The gradient is written down rather than recorded, so that of all logits only those of one chunk of
tokens exist at a time, and none of the softmaxes' intermediate results are kept for a backward
pass: each chunk goes through the LM head once, and its gradient back at once.

Shapes: ``T`` tokens, ``H`` hidden size, ``V`` vocabulary, ``1`` a kept dimension.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.pruning.core.retraining import Head

_LOGIT_BYTES = 64 << 20
"""The most that one model's float32 logits may take at once."""
_CACHED_BYTES = 2 << 20
"""On a CPU the element-wise work is done in parts of this size, which stay in its cache."""


@dataclass(frozen=True)
class LossSums:
    """Sums over tokens in nats, float64: cross-entropy, and KL at the temperature (without T²)."""

    ce: Tensor
    kl: Tensor


def logit_gradient_(
    logits_TV: Tensor,
    teacher_TV: Tensor | None,
    next_T: Tensor,
    *,
    alpha: float,
    temperature: float,
    scale: float,
) -> LossSums:
    """Replace float32 student logits by ``scale``·∂loss/∂z; ``teacher_TV`` is used up.

    Args:
        teacher_TV: None for plain cross-entropy, whatever ``alpha``.
    """
    rows = torch.arange(len(next_T), device=next_T.device)
    logits_TV.sub_(logits_TV.amax(dim=1, keepdim=True))
    picked_T = logits_TV[rows, next_T]
    if teacher_TV is None:
        logits_TV.exp_()
        total_T1 = logits_TV.sum(dim=1, keepdim=True)
        ce = (total_T1[:, 0].log() - picked_T).sum(dtype=torch.float64)
        logits_TV.mul_(scale / total_T1)
        logits_TV[rows, next_T] -= scale
        return LossSums(ce, torch.zeros_like(ce))
    teacher_TV.sub_(teacher_TV.amax(dim=1, keepdim=True)).mul_(1 / temperature)
    soft_TV = logits_TV.mul_(1 / temperature).exp()
    soft_total_T1 = soft_TV.sum(dim=1, keepdim=True)
    # softmax(z) from softmax(z/T): one exponential serves both.
    hard_total_T1 = soft_TV.pow(temperature).sum(dim=1, keepdim=True)
    ce = (hard_total_T1[:, 0].log() - picked_T).sum(dtype=torch.float64)
    difference_TV = torch.sub(teacher_TV, logits_TV, out=logits_TV)
    wanted_TV = teacher_TV.exp_()
    wanted_total_T1 = wanted_TV.sum(dim=1, keepdim=True)
    product_T = torch.linalg.vecdot(wanted_TV, difference_TV)
    kl_T = product_T / wanted_total_T1[:, 0] + (soft_total_T1 / wanted_total_T1)[:, 0].log()
    torch.pow(soft_TV, temperature, out=logits_TV)
    logits_TV.mul_(scale * (1 - alpha) / hard_total_T1)
    logits_TV.addcmul_(soft_TV, scale * alpha * temperature / soft_total_T1)
    logits_TV.addcmul_(wanted_TV, -scale * alpha * temperature / wanted_total_T1)
    logits_TV[rows, next_T] -= scale * (1 - alpha)
    return LossSums(ce, kl_T.sum(dtype=torch.float64))


def backward_through_head(
    hidden_TH: Tensor,
    head: Head,
    teacher: tuple[Tensor, Head] | None,
    next_T: Tensor,
    backward: Callable[[Tensor, Tensor], None],
    *,
    alpha: float,
    temperature: float,
    scale: float,
) -> tuple[Tensor, LossSums]:
    """Loss of all tokens and its gradient with respect to the student's hidden states.

    The head's own weights receive their gradients on the way.

    Args:
        hidden_TH: the student's, without a graph.
        teacher: the teacher's hidden states and head; None for plain cross-entropy.
        backward: ``(logits, gradient)`` → gradients added to the leaves'.
        scale: of the loss: 1 / the tokens of the whole batch.

    Returns:
        The gradient, ``T × H``, and the unscaled sums.
    """
    # Not under no_grad: some versions of torch would keep the cast weight that autocast makes here,
    # which then leads to no gradient.
    vocabulary = head(hidden_TH[:1]).shape[-1]
    chunk = max(1, _LOGIT_BYTES // (4 * vocabulary))
    gradient_TH = torch.empty_like(hidden_TH)
    zero = torch.zeros((), dtype=torch.float64, device=hidden_TH.device)
    ce, kl = zero, zero
    for start in range(0, len(hidden_TH), chunk):
        part = slice(start, start + chunk)
        leaf_TH = hidden_TH[part].detach().requires_grad_()
        logits_TV = head(leaf_TH)
        wanted_TV = None
        if teacher is not None:
            with torch.inference_mode():
                wanted_TV = teacher[1](teacher[0][part]).float()
        values_TV = logits_TV.detach().float()
        sums = _by_parts(values_TV, wanted_TV, next_T[part], alpha, temperature, scale)
        ce, kl = ce + sums.ce, kl + sums.kl
        backward(logits_TV, values_TV.to(logits_TV.dtype))
        assert leaf_TH.grad is not None
        gradient_TH[part] = leaf_TH.grad
    return gradient_TH, LossSums(ce, kl)


@torch.no_grad()
def hidden_gradient(hidden_TH: Tensor, wanted_TH: Tensor, *, scale: float) -> tuple[Tensor, Tensor]:
    """``scale``·∂/∂h of Σ_T ‖h − h′‖² / ‖h′‖², and that sum in float64.

    Args:
        hidden_TH: the student's last hidden states h.
        wanted_TH: the teacher's, h′.
    """
    difference_TH = hidden_TH.float() - wanted_TH.float()
    energy_T1 = wanted_TH.float().square().sum(1, keepdim=True)
    total = (difference_TH.square() / energy_T1).sum(dtype=torch.float64)
    return (2 * scale * difference_TH / energy_T1).to(hidden_TH.dtype), total


@torch.inference_mode()
def _by_parts(
    values_TV: Tensor,
    wanted_TV: Tensor | None,
    next_T: Tensor,
    alpha: float,
    temperature: float,
    scale: float,
) -> LossSums:
    rows = len(values_TV)
    if values_TV.device.type == "cpu":
        rows = max(1, _CACHED_BYTES // (4 * values_TV.shape[1]))
    ce = kl = torch.zeros((), dtype=torch.float64, device=values_TV.device)
    # The head's autocast is not for these: it would compute products of float32 in 16 bits.
    with torch.autocast(values_TV.device.type, enabled=False):
        for start in range(0, len(values_TV), rows):
            part = slice(start, start + rows)
            sums = logit_gradient_(
                values_TV[part],
                None if wanted_TV is None else wanted_TV[part],
                next_T[part],
                alpha=alpha,
                temperature=temperature,
                scale=scale,
            )
            ce, kl = ce + sums.ce, kl + sums.kl
    return LossSums(ce, kl)
