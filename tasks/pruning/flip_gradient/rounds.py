"""Rounds of flips: each moves the choice one step towards the target.

Shapes: ``L`` blocks, ``G`` groups, ``C`` channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.sequences import Sequences
from tasks.pruning.flip_gradient.budget import allocated, fitted
from tasks.pruning.flip_gradient.choice import Choice, highest_groups
from tasks.pruning.flip_gradient.judge import Judge
from tasks.pruning.flip_gradient.prior import Prior

_FURTHER = (0.2, 0.4)
"""Shares of a block's channels whose loss is measured beyond what it has lost."""
_BACK = 0.25
"""The share that is put back, in place of the second of those, once a block has lost as much."""
_POINTS = 2


def ranks(values_LG: Tensor) -> Tensor:
    """0 for the lowest, of all blocks together; ties by place."""
    flat = values_LG.flatten()
    found = torch.empty_like(flat)
    found[flat.argsort(stable=True)] = torch.arange(len(flat), dtype=flat.dtype)
    return found.view_as(values_LG)


class Rounds:
    """The current choice and what flips have told so far.

    Args:
        most: the largest share of its channels that a block may lose.

    Attributes:
        choice: what stays now; at first everything.
        costs_LG: what losing a group costs, in nats; the mean of the last round and those before.
        tokens: that flips have judged.
    """

    def __init__(self, decoder: Decoder, prior: Prior, *, most: float) -> None:
        self._decoder, self._prior, self._most = decoder, prior, most
        self.choice = Choice.dense(prior)
        self.costs_LG: Tensor | None = None
        self.tokens = 0

    @property
    def flips(self) -> int:
        """Losses that one round measures, that of the current choice among them."""
        return 1 + len(self._prior.group_places) + _POINTS * len(self._prior.channel_blocks)

    def go_to_(
        self, share: float, windows: Sequences, told: Callable[[int, int], None]
    ) -> dict[str, float]:
        """One round: flip everything at the current choice, then choose for ``share``."""
        free, channels = self._prior.channel_blocks, self._prior.order_LC.shape[1]
        with Judge(self._decoder, windows) as judge:
            flipped = [1]

            def loss(choice: Choice, block: int) -> float:
                flipped[0] += 1
                told(flipped[0], self.flips)
                return judge(choice, since=block)

            base = judge.begin(self.choice)
            if not math.isfinite(base):
                raise ValueError(f"the model's outputs are not finite with {share:.0%} to remove")
            costs_LG = self._costs(loss, base)
            curves = [self._curve(loss, base, block) for block in free]
            self.tokens += judge.tokens
        if self.costs_LG is not None:
            costs_LG = (costs_LG + self.costs_LG) / 2
        self.costs_LG = costs_LG
        lost = [0] * len(self._prior.order_LC)
        if free:
            total = min(round(share * channels * len(free)), (channels - 1) * len(free))
            allowed = allocated(curves, channels, total, self._most)
            for block, size in zip(free, allowed, strict=True):
                lost[block] = size
        free_L = self._prior.removable.groups_L
        scores_LG = torch.zeros_like(costs_LG)
        scores_LG[free_L] = ranks(costs_LG[free_L]) + ranks(self._prior.groups_LG[free_L])
        groups_LG = highest_groups(scores_LG, share, free_L)
        self.choice = Choice(groups_LG, tuple(lost), self._prior.order_LC)
        return {"divergence_before": base, "share": share}

    def _costs(self, loss: Callable[[Choice, int], float], base: float) -> Tensor:
        costs_LG = torch.zeros_like(self._prior.groups_LG)
        for block, group in self._prior.group_places:
            stays = bool(self.choice.groups_LG[block, group])
            change = loss(self.choice.with_group(block, group, not stays), block) - base
            costs_LG[block, group] = change if stays else -change
        return costs_LG

    def _curve(
        self, loss: Callable[[Choice, int], float], base: float, block: int
    ) -> tuple[float, float]:
        """The loss as a function of the channels that one block loses."""
        channels = self._prior.order_LC.shape[1]
        lost = self.choice.lost[block]
        wanted = [lost + round(part * channels) for part in _FURTHER]
        if lost >= _BACK * channels:
            wanted[-1] = lost - round(_BACK * channels)
        points = [min(max(point, 0), channels - 1) for point in wanted]
        changes = [loss(self.choice.with_lost(block, point), block) - base for point in points]
        shares_P = torch.tensor(points, dtype=torch.float64) / channels
        return fitted(shares_P, torch.tensor(changes, dtype=torch.float64), lost / channels)

    def swapped(self, judge: Judge, swaps: int) -> tuple[Choice, float]:
        """Groups put back for groups that seem worth less, where ``judge`` finds it better.

        Args:
            swaps: accepted at most; twice as many are tried.

        Returns:
            The choice, and its divergence by ``judge``.
        """
        choice, value = self.choice, judge(self.choice)
        if self.costs_LG is None or not swaps:
            return choice, value
        costs = {place: float(self.costs_LG[place]) for place in self._prior.group_places}
        gone = sorted((p for p in costs if not choice.groups_LG[p]), key=lambda p: -costs[p])
        here = sorted((p for p in costs if choice.groups_LG[p]), key=lambda p: costs[p])
        pairs = [(back, out) for back in gone[:swaps] for out in here[:swaps]]
        pairs.sort(key=lambda pair: costs[pair[1]] - costs[pair[0]])
        accepted = 0
        for (block, group), (other, lost) in pairs[: 2 * swaps]:
            trial = choice.with_group(block, group, True).with_group(other, lost, False)
            possible = int(trial.groups_LG.sum()) == int(choice.groups_LG.sum())
            if accepted == swaps or not possible or not trial.groups_LG.any(dim=1).all():
                continue
            if (found := judge(trial)) < value:
                choice, value, accepted = trial, found, accepted + 1
        return choice, value
