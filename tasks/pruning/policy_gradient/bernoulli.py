"""Learning Bernoulli parameters under a budget, from losses alone (arXiv 2406.10576).

Pure functions over vectors: the estimator of the gradient, its baselines, the projection onto the
budget and the deterministic choice at the end. One step draws K masks, subtracts a baseline from
their losses and moves against the estimate.

Shapes: ``K`` masks, ``V`` variables.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPSILON = 1e-7
"""Keeps the estimator's denominator from zero, as the authors do."""


def draw(scores_V: Tensor, masks: int, generator: torch.Generator, *, antithetic: bool) -> Tensor:
    """``K × V`` masks with P(mask = 1) = score, as floats.

    Args:
        antithetic: draw them in pairs from U and 1 − U. Each mask alone is distributed as without,
            and what pushes one of a pair up pushes the other down. The masks of a step are then
            not independent: with the leave-one-out baseline the estimate keeps its sign and loses
            its scale.
    """
    if not antithetic:
        uniform_KV = torch.rand(masks, scores_V.numel(), generator=generator)
    else:
        half_KV = torch.rand((masks + 1) // 2, scores_V.numel(), generator=generator)
        uniform_KV = torch.stack([half_KV, 1.0 - half_KV], dim=1).flatten(0, 1)[:masks]
    return (uniform_KV < scores_V).to(scores_V.dtype)


def ranked(scores_X: Tensor, generator: torch.Generator) -> Tensor:
    """Keys whose highest n are a draw of exactly n variables, about as likely as their scores say.

    logit(s) − logit(U), U uniform: a variable above 0 is one that :func:`draw` would keep, and to
    take the highest n moves that threshold alike for all of them. This is Rosén's Pareto sampling
    (J. Stat. Plan. Inference 62, 1997), close to independent draws given that their sum is n.
    Scores of 0 and 1 never and always stay, as far as n allows.
    """
    uniform_X = torch.rand(scores_X.shape, generator=generator).clamp(EPSILON, 1.0 - EPSILON)
    return scores_X.logit() - uniform_X.logit()


class MovingAverage:
    """The paper's baseline: b = mean loss at first; then b ← (1 − 1/W)·b + mean/W, W = 5."""

    def __init__(self, window: int = 5) -> None:
        self._window = window
        self._value: float | None = None

    def update(self, losses_K: Tensor) -> Tensor:
        """Take in a step's losses and return the baseline of each."""
        mean = float(losses_K.mean())
        if self._value is None:
            self._value = mean
        self._value += (mean - self._value) / self._window
        return torch.full_like(losses_K, self._value)


class LeaveOneOut:
    """The mean of the other masks' losses: no memory, and independent of the mask it judges."""

    def update(self, losses_K: Tensor) -> Tensor:
        if len(losses_K) < 2:
            # The others of this step were not finite: nothing to compare with, so nothing moves.
            return losses_K.clone()
        return (losses_K.sum() - losses_K) / (len(losses_K) - 1)


def gradient(
    losses_K: Tensor, baseline_K: Tensor, masks_KV: Tensor, scores_V: Tensor, estimator: str
) -> Tensor:
    """An estimate of ∂E[loss]/∂score, ``V``.

    ``score`` is the score function: the mean over masks of (ℓ − b)·(m − s)/(s(1 − s)).
    ``normalised`` is the authors': divided by √(s(1 − s)) instead, so that every variable moves by
    comparable steps, and by K − 1 instead of K. Its expectation is √(s(1 − s))·K/(K − 1) times the
    gradient when the baseline does not depend on the masks.
    """
    difference_KV = masks_KV - scores_V
    variance_V = (scores_V + EPSILON) * (1.0 - scores_V + EPSILON)
    advantage_K = losses_K - baseline_K
    count = len(losses_K)
    if estimator == "score":
        return advantage_K @ (difference_KV / variance_V) / count
    # One mask: the authors divide by zero.
    return advantage_K @ (difference_KV / variance_V.sqrt()) / max(count - 1, 1)


def project(scores_V: Tensor, budget: float, floor: float) -> Tensor:
    """The nearest scores within [floor, 1 − floor] whose sum is at most ``budget``.

    clamp(s − v, floor, 1 − floor) with the v ≥ 0 that meets the budget, by bisection: the Euclidean
    projection. A score of exactly 0 would never be drawn again and so never move: hence the floor.

    Raises:
        ValueError: when the floor alone exceeds the budget.
    """
    if floor * scores_V.numel() > budget:
        raise ValueError(f"{scores_V.numel()} scores of at least {floor} exceed {budget}")

    def shifted(by: float) -> Tensor:
        return (scores_V - by).clamp(floor, 1.0 - floor)

    if float(shifted(0.0).double().sum()) <= budget:
        return shifted(0.0)
    low, high = 0.0, float(scores_V.max())
    for _ in range(60):
        middle = 0.5 * (low + high)
        if float(shifted(middle).double().sum()) > budget:
            low = middle
        else:
            high = middle
    return shifted(high)


def decayed(rate: float, step: int, steps: int) -> float:
    """Cosine from ``rate`` at step 0 to 0 at ``steps``."""
    return 0.5 * rate * (1.0 + math.cos(math.pi * step / steps))


def keep_highest(
    scores_LV: Tensor, sizes_LV: Tensor, budget: int, *, across_layers: bool
) -> Tensor:
    """Keep the variables with the highest scores, exactly as many members as the budget allows.

    Deterministic: of equal scores the lower index stays. Every layer keeps at least its best
    variable, whatever the budget.

    Args:
        scores_LV: of each layer's variables.
        sizes_LV: how many members each variable stands for; 0 pads layers to one width.
        budget: members to keep in all. The last variable that does not fit as a whole is left out.
        across_layers: compete over all layers; else every layer keeps the same share.

    Returns:
        ``L × V``, True where kept.
    """
    layers = scores_LV.shape[0]
    if not layers:
        return torch.zeros_like(scores_LV, dtype=torch.bool)
    scores_LV = scores_LV.masked_fill(sizes_LV == 0, -torch.inf)
    best_LV = torch.zeros_like(scores_LV, dtype=torch.bool)
    best_LV[torch.arange(layers), scores_LV.argmax(dim=1)] = True
    if not across_layers:
        # What does not divide goes to every so many layers, evenly.
        each = [budget * (at + 1) // layers - budget * at // layers for at in range(layers)]
        return torch.stack(
            [
                _fill(scores_V, sizes_V, best_V, share)
                for scores_V, sizes_V, best_V, share in zip(
                    scores_LV, sizes_LV, best_LV, each, strict=True
                )
            ]
        )
    kept_X = _fill(scores_LV.flatten(), sizes_LV.flatten(), best_LV.flatten(), budget)
    return kept_X.view_as(scores_LV)


def _fill(scores_X: Tensor, sizes_X: Tensor, kept_X: Tensor, budget: int) -> Tensor:
    """Add variables from the highest score down for as long as they fit."""
    # As lists: an element of a tensor takes microseconds to look at, and a model has many channels.
    sizes, kept = sizes_X.tolist(), kept_X.tolist()
    left = budget - sum(size for size, stays in zip(sizes, kept, strict=True) if stays)
    for index in scores_X.argsort(descending=True, stable=True).tolist():
        if not kept[index] and 0 < sizes[index] <= left:
            kept[index] = True
            left -= sizes[index]
    return torch.tensor(kept)
