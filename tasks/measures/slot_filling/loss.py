"""The loss of slot filling.

Shapes: ``R`` candidates, ``S`` columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tasks.measures.tuning.batches import Batch, Reading


@dataclass(frozen=True, kw_only=True)
class SlotLoss:
    """Binary cross-entropy, its negatives weighted; each column that is asked is a term.

    Attributes:
        mask_other_events: ask the columns of an instance's own event; else, as published, all,
            although nobody annotated a tweet for other events.
    """

    negative_weight: float
    mask_other_events: bool

    def loss(self, logits_RS: Tensor, batch: Batch) -> Tensor:
        labels_RS = batch.labels_RS
        weight_RS = labels_RS + (1 - labels_RS) * self.negative_weight
        asked_RS = batch.asked_RS if self.mask_other_events else torch.ones_like(batch.asked_RS)
        return nn.functional.binary_cross_entropy_with_logits(
            logits_RS, labels_RS, weight=weight_RS * asked_RS, reduction="sum"
        )

    def terms(self, reading: Reading, columns: int) -> int:
        return len(reading.columns) if self.mask_other_events else columns
