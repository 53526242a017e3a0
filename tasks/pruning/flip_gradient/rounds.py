"""Rounds of flips: each moves the choice one step towards the target.

Shapes: ``L`` blocks, ``G`` groups, ``C`` channels, ``N`` windows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tasks.pruning.core.blocks import Decoder
from tasks.pruning.flip_gradient.budget import allocated, fitted
from tasks.pruning.flip_gradient.choice import Choice, Judge, highest_groups
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
        return 1 + self._prior.groups_LG.numel() + _POINTS * len(self._prior.order_LC)

    def go_to_(
        self, share: float, windows_NL: Tensor, told: Callable[[int, int], None]
    ) -> dict[str, float]:
        """One round: flip everything at the current choice, then choose for ``share``."""
        blocks, channels = self._prior.order_LC.shape
        with Judge(self._decoder, windows_NL) as judge:
            flipped = [0]

            def loss(choice: Choice) -> float:
                flipped[0] += 1
                told(flipped[0], self.flips)
                return judge(choice)

            base = loss(self.choice)
            costs_LG = self._costs(loss, base)
            curves = [self._curve(loss, base, block) for block in range(blocks)]
            self.tokens += judge.tokens
        if self.costs_LG is not None:
            costs_LG = (costs_LG + self.costs_LG) / 2
        self.costs_LG = costs_LG
        lost = allocated(curves, channels, round(share * channels * blocks), self._most)
        scores_LG = ranks(costs_LG) + ranks(self._prior.groups_LG)
        groups_LG = highest_groups(scores_LG, share)
        self.choice = Choice(groups_LG, tuple(lost), self._prior.order_LC)
        return {"divergence_before": base, "share": share}

    def _costs(self, loss: Callable[[Choice], float], base: float) -> Tensor:
        costs_LG = torch.zeros_like(self._prior.groups_LG)
        for block, group in torch.cartesian_prod(
            *(torch.arange(size) for size in costs_LG.shape)
        ).tolist():
            stays = bool(self.choice.groups_LG[block, group])
            change = loss(self.choice.with_group(block, group, not stays)) - base
            costs_LG[block, group] = change if stays else -change
        return costs_LG

    def _curve(
        self, loss: Callable[[Choice], float], base: float, block: int
    ) -> tuple[float, float]:
        """The loss as a function of the channels that one block loses."""
        channels = self._prior.order_LC.shape[1]
        lost = self.choice.lost[block]
        wanted = [lost + round(part * channels) for part in _FURTHER]
        if lost >= _BACK * channels:
            wanted[-1] = lost - round(_BACK * channels)
        points = [min(max(point, 0), channels - 1) for point in wanted]
        changes = [loss(self.choice.with_lost(block, point)) - base for point in points]
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
        costs = self.costs_LG.tolist()
        gone, here = (
            sorted(flags_LG.nonzero().tolist(), key=lambda at: costs[at[0]][at[1]])
            for flags_LG in (choice.groups_LG.logical_not(), choice.groups_LG)
        )
        # The dearest of those that went for the cheapest of those that stayed.
        pairs = [(back, out) for back in gone[::-1][:swaps] for out in here[:swaps]]
        pairs.sort(key=lambda pair: costs[pair[1][0]][pair[1][1]] - costs[pair[0][0]][pair[0][1]])
        accepted = 0
        for (block, group), (other, lost) in pairs[: 2 * swaps]:
            trial = choice.with_group(block, group, True).with_group(other, lost, False)
            possible = int(trial.groups_LG.sum()) == int(choice.groups_LG.sum())
            if accepted == swaps or not possible or not trial.groups_LG.any(dim=1).all():
                continue
            if (found := judge(trial)) < value:
                choice, value, accepted = trial, found, accepted + 1
        return choice, value
