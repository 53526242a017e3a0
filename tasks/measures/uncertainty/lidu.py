"""LiDu: how probable it is that a model would rank a list as it does (arXiv 2507.23208).

The paper was read in its abstract alone, which says what is estimated and not how; what stands
here is our own derivation from that wording. ``T`` samples of the scores of ``A`` items are given,
and the list is the items by their mean score, first of equals first. Under a normal predictive
distribution, item a stands above item b with probability

    Φ((μ_a − μ_b) / √(d_ab + ε)),    d_ab = Var_t(s_a − s_b)    (paired)
                                     or σ_a² + σ_b²              (independent)

with unbiased variances over the samples, ε = 1e-12 of the scores' variance over items. ``U`` is
minus the logarithm of these probabilities over some pairs (:data:`FORMS`): log 2 where all means
are equal, 0 where the items are far apart. It is unchanged by a scale and a shift of all scores,
and in the paired form by another shift in every sample, as the softmax's normalisation is one.

**What it cannot see**: samples that agree. A model that collapsed and answers alike every time has
a low U. Entropy and agreement with a model that is trusted belong beside it.

Shapes: ``...TA``: any leading axes, samples, items. All arithmetic is float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Form = Literal["later", "later_sum", "adjacent", "boundary"]
FORMS: tuple[Form, ...] = get_args(Form)
"""``later``: the mean over the first k positions and all items behind each. ``later_sum``: the sum
over these pairs divided by k, −log P(list)/k if pairs were independent; it grows with A.
``adjacent``: the mean over k pairs of neighbours. ``boundary``: the k-th item against all below."""
LOG_2 = math.log(2)
"""U of lists whose items have equal means, in every form but ``later_sum``."""
_NOISE = 1e-12


@dataclass(frozen=True)
class Uncertainty:
    """
    Attributes:
        values: U of each list, in nats, without the axes T and A.
        k: positions that were used.
        clipped: whether fewer than asked: a list of A items has A − 1 positions with one behind.
    """

    values: Tensor
    k: int
    clipped: bool


def lidu(scores: Tensor, k: int, *, form: Form = "later", paired: bool = True) -> Uncertainty:
    """U of each list of ``scores`` (``...TA``).

    Args:
        k: positions of the list that count.
        paired: whether a sample moves all items together, as a model's own scores do.

    Raises:
        ValueError: fewer than two samples or items, k below 1, or a score that is not finite.
    """
    scores, k, clipped = _checked(scores, k)
    # Behind one another in the list: scores that are compared are neighbours in memory.
    order = scores.mean(-2).argsort(dim=-1, descending=True, stable=True)
    sorted_ = scores.gather(-1, order.unsqueeze(-2).expand(scores.shape))
    above, below = _places(form, k, scores.shape[-1])
    gap_TP = sorted_[..., above] - sorted_[..., below]
    variance = sorted_.var(-2, unbiased=True)
    spread = (
        gap_TP.var(-2, unbiased=True) if paired else variance[..., above] + variance[..., below]
    )
    noise = _NOISE * scores.var(-1, unbiased=False).mean(-1, keepdim=True)
    scale = (spread + noise).sqrt()
    # Without any spread all scores are equal, and either order is as good.
    z = torch.where(scale > 0, gap_TP.mean(-2) / scale, torch.zeros_like(scale))
    surprise = -torch.special.log_ndtr(z)
    summed = surprise.sum(-1) / k if form == "later_sum" else surprise.mean(-1)
    return Uncertainty(summed, k, clipped)


def _checked(scores: Tensor, k: int) -> tuple[Tensor, int, bool]:
    samples, items = scores.shape[-2:]
    if samples < 2:
        raise ValueError(f"{samples} sample of the scores has no spread: at least two are needed")
    if items < 2:
        raise ValueError(f"a list of {items} item has no order: at least two are needed")
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
    if not scores.isfinite().all():
        raise ValueError("a score is not finite")
    return scores.double(), min(k, items - 1), k > items - 1


def _places(form: Form, k: int, items: int) -> tuple[Tensor, Tensor]:
    """Places in the list of the items that are compared, the upper and the lower of each pair."""
    if form == "adjacent":
        above = torch.arange(k)
        return above, above + 1
    if form == "boundary":
        below = torch.arange(k, items)
        return torch.full_like(below, k - 1), below
    above, below = torch.triu_indices(k, items, offset=1)
    return above, below


def entropy(scores: Tensor) -> Tensor:
    """Of the softmax of the mean scores, in nats; ``...TA`` → ``...``."""
    log = scores.double().mean(-2).log_softmax(-1)
    return -(log.exp() * log).sum(-1)


def margin(scores: Tensor) -> Tensor:
    """The first mean score above the second; ``...TA`` → ``...``."""
    first, second = scores.double().mean(-2).topk(2, dim=-1).values.unbind(-1)
    return first - second


def estimators(scores: Tensor, k: int) -> dict[str, Tensor]:
    """What else is told of lists without labels, to show beside U; ``...TA`` → ``...`` each.

    ``std_top`` and ``std_all``: mean standard deviation over samples of the first k items' scores
    and of all. ``entropy`` of the softmax of the means. ``maximum`` and ``mean_top``: mean score of
    the first item and of the first k. ``spread``: by how many standard deviations of all means the
    first k lie above their mean. ``overlap``: the part of the list's first k that a sample's own
    first k hold, mean over samples. ``margin``: of the first to the second.
    """
    scores, k, _ = _checked(scores, k)
    mean = scores.mean(-2)
    top = mean.argsort(dim=-1, descending=True, stable=True)[..., :k]
    deviation = scores.std(-2, unbiased=True)
    first = mean.gather(-1, top)
    across = mean.std(-1, unbiased=False)
    lead = first.mean(-1) - mean.mean(-1)
    listed = torch.zeros_like(mean).scatter(-1, top, 1.0).unsqueeze(-2)
    own = scores.argsort(dim=-1, descending=True, stable=True)[..., :k]
    held = listed.expand(scores.shape).gather(-1, own).mean((-1, -2))
    return {
        "std_top": deviation.gather(-1, top).mean(-1),
        "std_all": deviation.mean(-1),
        "entropy": entropy(scores),
        "maximum": first[..., 0],
        "mean_top": first.mean(-1),
        "spread": torch.where(across > 0, lead / across, torch.zeros_like(lead)),
        "overlap": held,
        "margin": margin(scores),
    }
