"""Which of a policy's choices counts: the best on text that it did not learn from.

Losses of drawn masks move a policy, and say little of the one mask that it stands for. So that
mask, the deterministic choice, is judged on windows held back from learning: at the start, now and
then, and in the end.
"""

from __future__ import annotations

import math

import torch

from tasks.pruning.core.gates import GatedLoss
from tasks.pruning.core.sequences import Sequences
from tasks.pruning.core.structure import Kept
from tasks.pruning.policy_gradient.policy import Policy

_WINDOWS_AT_ONCE = 4


class Best:
    """Keeps the best choice seen so far.

    Args:
        windows: to judge on; with none, the latest choice counts.

    Attributes:
        kept: what stays by that choice.
        distribution: the policy's tensors at that time.
        tokens: that judging has read.
    """

    def __init__(
        self, policy: Policy, loss: GatedLoss, windows: Sequences, *, across_layers: bool
    ) -> None:
        self._loss, self._windows, self._across = loss, windows, across_layers
        self._lowest = math.inf
        self.kept = policy.kept(across_layers=across_layers)
        self.distribution = policy.tensors()
        self.tokens = 0

    def judge_(self, policy: Policy) -> dict[str, float]:
        """Judge the policy's choice; its mean loss on the windows, where there are any."""
        kept = policy.kept(across_layers=self._across)
        if not len(self._windows):
            self._take(kept, policy)
            return {}
        loss = self._mean_loss(kept)
        self.tokens += self._windows.ids_NL.numel()
        if loss < self._lowest:
            self._lowest = loss
            self._take(kept, policy)
        # A model that overflows has no loss to draw.
        return {"validation_loss": loss} if math.isfinite(loss) else {}

    def _take(self, kept: tuple[Kept, ...], policy: Policy) -> None:
        self.kept, self.distribution = kept, policy.tensors()

    def _mean_loss(self, kept: tuple[Kept, ...]) -> float:
        groups_LG = torch.stack([block.groups_G for block in kept]).float()
        channels_LC = torch.stack([block.channels_C for block in kept]).float()
        total = 0.0
        for batch in self._windows.split(_WINDOWS_AT_ONCE):
            loss = self._loss(groups_LG, channels_LC, batch.ids_NL, batch.counted_NL)
            total += loss * batch.weight()
        mean = total / self._windows.weight()
        return mean if not math.isnan(mean) else math.inf
