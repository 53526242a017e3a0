"""The Bernoulli parameters of all groups and channels: how they start, move and end.

One vector of scores: first the groups of all blocks that may lose some, then the channel variables
of those that may lose channels; what is excluded has no variables, and stays. A channel variable
stands for ``channel_group`` channels.

Shapes: ``L`` blocks, ``F`` blocks that may lose groups or channels, ``G`` groups, ``C`` channels,
``B`` channel variables of a block, ``V`` all variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import LearningInputs
from tasks.pruning.core.structure import BlockStructure, Kept, Removable, removable, structure_of
from tasks.pruning.policy_gradient import bernoulli
from tasks.pruning.wanda_sp import walk_metrics


@dataclass
class Policy:
    """Probabilities that groups and channels stay, on the CPU in float32.

    Attributes:
        groups_FG, channels_FB: the scores.
        membership_FC: the channel variable that each channel belongs to.
        removable: which blocks they are.
        keep: the share that stays, of groups and of channels.
        floor: scores stay within [floor, 1 − floor].
    """

    groups_FG: Tensor
    channels_FB: Tensor
    membership_FC: Tensor
    removable: Removable
    keep: float
    floor: float

    def __post_init__(self) -> None:
        blocks, channels = self.membership_FC.shape
        sizes_FB = torch.zeros(self.channels_FB.shape, dtype=torch.long)
        ones = torch.ones(blocks, channels, dtype=torch.long)
        self._sizes_FB = sizes_FB.scatter_add_(1, self.membership_FC, ones)
        self.move_(torch.zeros_like(self.scores_V))

    @property
    def scores_V(self) -> Tensor:
        return torch.cat([self.groups_FG.flatten(), self.channels_FB.flatten()])

    def move_(self, step_V: Tensor) -> None:
        """Add a step, then project groups and channels onto their budgets, each over all blocks."""
        groups_V, channels_V = (self.scores_V + step_V).split(
            [self.groups_FG.numel(), self.channels_FB.numel()]
        )
        for scores_V, held in ((groups_V, self.groups_FG), (channels_V, self.channels_FB)):
            if scores_V.numel():
                projected = bernoulli.project(scores_V, self.keep * scores_V.numel(), self.floor)
                held.copy_(projected.view_as(held))

    def gates(self, mask_V: Tensor) -> tuple[Tensor, Tensor]:
        """A mask of the variables as gates of groups ``L × G`` and channels ``L × C``."""
        groups_V, channels_V = mask_V.split([self.groups_FG.numel(), self.channels_FB.numel()])
        channels_FB = channels_V.view_as(self.channels_FB)
        return (
            _among_all(groups_V.view_as(self.groups_FG), self.removable.groups_L),
            _among_all(channels_FB.gather(1, self.membership_FC), self.removable.channels_L),
        )

    def kept(self, *, across_layers: bool) -> tuple[Kept, ...]:
        """The choice: the highest scores within the budget, groups and channels apart."""
        return self._highest(self.groups_FG, self.channels_FB, across_layers)

    def sample(self, generator: torch.Generator, *, across_layers: bool) -> tuple[Kept, ...]:
        """A draw at the budget of :meth:`kept`, as nearly as whole variables allow."""
        keys_FG = bernoulli.ranked(self.groups_FG, generator)
        keys_FB = bernoulli.ranked(self.channels_FB, generator)
        return self._highest(keys_FG, keys_FB, across_layers)

    def tensors(self) -> dict[str, Tensor]:
        """A copy of what :meth:`of_tensors` reads."""
        return {
            "groups_FG": self.groups_FG.clone(),
            "channels_FB": self.channels_FB.clone(),
            "membership_FC": self.membership_FC.int(),
            "groups_L": self.removable.groups_L.clone(),
            "channels_L": self.removable.channels_L.clone(),
        }

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor], keep: float, floor: float) -> Policy:
        """The policy whose :meth:`tensors` they are."""
        return cls(
            tensors["groups_FG"],
            tensors["channels_FB"],
            tensors["membership_FC"].long(),
            Removable(tensors["groups_L"], tensors["channels_L"]),
            keep,
            floor,
        )

    def _highest(self, keys_FG: Tensor, keys_FB: Tensor, across_layers: bool) -> tuple[Kept, ...]:
        groups_FG = bernoulli.keep_highest(
            keys_FG,
            torch.ones_like(keys_FG, dtype=torch.long),
            round(self.keep * self.groups_FG.numel()),
            across_layers=across_layers,
        )
        channels_FB = bernoulli.keep_highest(
            keys_FB,
            self._sizes_FB,
            round(self.keep * self.membership_FC.numel()),
            across_layers=across_layers,
        )
        groups_LG = _among_all(groups_FG, self.removable.groups_L)
        channels_LC = _among_all(
            channels_FB.gather(1, self.membership_FC), self.removable.channels_L
        )
        return tuple(Kept(g, c) for g, c in zip(groups_LG, channels_LC, strict=True))

    def figures(self) -> dict[str, float]:
        """How undecided the policy is: the mean of 4·s·(1 − s), 1 at one half and 0 at 0 or 1."""
        undecided_V = 4.0 * self.scores_V * (1.0 - self.scores_V)
        return {"undecided": float(undecided_V.mean())}


def _among_all(values_FX: Tensor, free_L: Tensor) -> Tensor:
    """Of all blocks: ``values_FX`` where something may go, ones elsewhere; ``L × X``."""
    found_LX = torch.ones(len(free_L), values_FX.shape[1], dtype=values_FX.dtype)
    found_LX[free_L] = values_FX
    return found_LX


def sigmap(metric_X: Tensor, keep: float, sharpness: float = 1.0) -> Tensor:
    """The authors' map from a block's metric to scores with mean about ``keep``.

    p = σ(sharpness·(metric − mean)/(std + 1e-8)); s = clamp(p + keep − mean(p), 0, 1).
    """
    probability = torch.sigmoid(sharpness * _standardised(metric_X))
    return (probability + keep - probability.mean()).clamp(0.0, 1.0)


def around_choice(values_X: Tensor, keep: float, sharpness: float = 1.0) -> Tensor:
    """Scores that draw masks near the choice of the highest values.

    p = σ(20·sharpness·(u − (1 − keep))), u the share of all values that lie below. The authors'
    map leaves even the worst a probability of about keep − ½, so that for small targets drawn
    masks have little in common with the choice that they shall improve.
    """
    flat_X = values_X.flatten()
    order_X = flat_X.argsort(stable=True)
    rank_X = torch.empty_like(flat_X)
    rank_X[order_X] = (torch.arange(len(flat_X), dtype=flat_X.dtype) + 0.5) / len(flat_X)
    return torch.sigmoid(20.0 * sharpness * (rank_X - (1.0 - keep))).view_as(values_X)


def _standardised(metric_X: Tensor) -> Tensor:
    spread = metric_X.std() if metric_X.numel() > 1 else torch.zeros(())
    return (metric_X - metric_X.mean()) / (spread + 1e-8)


def initial_policy(
    decoder: Decoder,
    keep: float,
    generator: torch.Generator,
    inputs: LearningInputs,
    *,
    kind: str,
    sharpness: float,
    channel_group: int,
    by_metric: bool,
    floor: float,
) -> Policy:
    """Scores to start from.

    Args:
        kind: ``wanda_sp``, ``around-choice``, ``random`` or ``constant``.
        by_metric: channels alike in Wanda-SP's metric share a variable, instead of neighbours.
    """
    structure = structure_of(decoder)
    free = removable(decoder)
    blocks = len(decoder.blocks)
    width = -(-structure.channels // channel_group)
    rank_LC = torch.arange(structure.channels).expand(blocks, -1)
    metrics = None
    informed = kind in ("wanda_sp", "around-choice")
    if informed or by_metric:
        assert inputs.tokens_NL is not None
        quiet = LearningInputs(loss=inputs.loss, device=inputs.device)
        metrics = walk_metrics(decoder, inputs.tokens_NL, keep, quiet)
    if by_metric and metrics is not None:
        order_LC = metrics.channels_LC.argsort(dim=1, descending=True, stable=True)
        rank_LC = torch.empty_like(order_LC).scatter_(1, order_LC, rank_LC.contiguous())
    membership_LC = rank_LC // channel_group
    membership_FC = membership_LC[free.channels_L]
    if informed and metrics is not None:
        means_FB = _means(metrics.channels_LC[free.channels_L], membership_FC, width)
        groups_FG, channels_FB = (
            _informed(kind, metric, keep, sharpness)
            for metric in (metrics.groups_LG[free.groups_L], means_FB)
        )
    else:
        groups_LG, channels_LB = _uninformed(kind, blocks, structure, width, keep, generator)
        groups_FG, channels_FB = groups_LG[free.groups_L], channels_LB[free.channels_L]
    return Policy(groups_FG, channels_FB, membership_FC, free, keep, floor)


def _informed(kind: str, metric_LX: Tensor, keep: float, sharpness: float) -> Tensor:
    """Each block's metric is standardised by itself, as the authors do it."""
    if not len(metric_LX):
        return metric_LX
    if kind == "wanda_sp":
        return torch.stack([sigmap(row, keep, sharpness) for row in metric_LX])
    values_LX = torch.stack([_standardised(row) for row in metric_LX])
    return around_choice(values_LX, keep, sharpness)


def _uninformed(
    kind: str,
    blocks: int,
    structure: BlockStructure,
    width: int,
    keep: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    shapes = ((blocks, structure.groups), (blocks, width))
    if kind == "constant":
        groups, channels = (torch.full(shape, keep) for shape in shapes)
    else:
        groups, channels = (torch.rand(shape, generator=generator) for shape in shapes)
    return groups, channels


def _means(values_LC: Tensor, membership_LC: Tensor, width: int) -> Tensor:
    """The mean of each variable's members, ``L × B``."""
    sums = torch.zeros(values_LC.shape[0], width).scatter_add_(1, membership_LC, values_LC)
    ones = torch.ones_like(values_LC)
    return sums / torch.zeros_like(sums).scatter_add_(1, membership_LC, ones)
