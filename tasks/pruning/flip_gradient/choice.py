"""What stays.

Shapes: ``L`` blocks, ``G`` groups, ``C`` channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tasks.pruning.core.structure import Kept
from tasks.pruning.flip_gradient.prior import Prior
from tasks.pruning.policy_gradient.bernoulli import keep_highest


def highest_groups(scores_LG: Tensor, share: float, free_L: Tensor) -> Tensor:
    """All but ``share`` of the groups, the highest scores of all blocks; each block keeps one.

    Args:
        free_L: True for the blocks that may lose some; the others keep all.
    """
    scores_FG = scores_LG[free_L]
    budget = round((1 - share) * scores_FG.numel())
    sizes_FG = torch.ones_like(scores_FG, dtype=torch.long)
    kept_LG = torch.ones_like(scores_LG, dtype=torch.bool)
    kept_LG[free_L] = keep_highest(scores_FG, sizes_FG, budget, across_layers=True)
    return kept_LG


@dataclass(frozen=True)
class Choice:
    """The groups that stay, and how many channels go from the front of each block's order.

    Attributes:
        groups_LG: True where a group stays.
        lost: channels that each block loses.
        order_LC: channel numbers of each block, in the order in which they go.
    """

    groups_LG: Tensor
    lost: tuple[int, ...]
    order_LC: Tensor

    @classmethod
    def dense(cls, prior: Prior) -> Choice:
        """Everything stays."""
        groups_LG = torch.ones_like(prior.groups_LG, dtype=torch.bool)
        return cls(groups_LG, (0,) * len(groups_LG), prior.order_LC)

    @classmethod
    def by_prior(cls, prior: Prior, share: float) -> Choice:
        """Groups by the prior over all blocks; the same share of every block's channels."""
        free, channels = prior.channel_blocks, prior.order_LC.shape[1]
        blocks = len(free)
        total = min(round(share * channels * blocks), blocks * (channels - 1))
        lost = [0] * len(prior.order_LC)
        for at, block in enumerate(free):
            lost[block] = total * (at + 1) // blocks - total * at // blocks
        groups_LG = highest_groups(prior.groups_LG, share, prior.removable.groups_L)
        return cls(groups_LG, tuple(lost), prior.order_LC)

    def channels_LC(self) -> Tensor:
        """True where a channel stays."""
        stays_LC = torch.ones_like(self.order_LC, dtype=torch.bool)
        for stays_C, order_C, lost in zip(stays_LC, self.order_LC, self.lost, strict=True):
            stays_C[order_C[:lost]] = False
        return stays_LC

    def with_group(self, block: int, group: int, stays: bool) -> Choice:
        groups_LG = self.groups_LG.clone()
        groups_LG[block, group] = stays
        return replace(self, groups_LG=groups_LG)

    def with_lost(self, block: int, lost: int) -> Choice:
        return replace(self, lost=(*self.lost[:block], lost, *self.lost[block + 1 :]))

    def kept(self) -> tuple[Kept, ...]:
        """In the form that the driver takes."""
        return tuple(
            Kept(groups_G, channels_C)
            for groups_G, channels_C in zip(self.groups_LG, self.channels_LC(), strict=True)
        )
