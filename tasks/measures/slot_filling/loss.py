"""The loss of slot filling.

Shapes: ``R`` candidates, ``S`` columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tasks.measures.tuning.batches import Batch


def slot_loss(
    logits_RS: Tensor, batch: Batch, *, negative_weight: float, mask_other_events: bool
) -> Tensor:
    """Binary cross-entropy, its negatives weighted, mean over the columns that are asked.

    Args:
        mask_other_events: ask the columns of an instance's own event; else, as published, all,
            although nobody annotated a tweet for other events.
    """
    labels_RS = batch.labels_RS
    weight_RS = labels_RS + (1 - labels_RS) * negative_weight
    asked_RS = batch.asked_RS if mask_other_events else torch.ones_like(batch.asked_RS)
    losses_RS = nn.functional.binary_cross_entropy_with_logits(
        logits_RS, labels_RS, weight=weight_RS * asked_RS, reduction="none"
    )
    return losses_RS.sum() / asked_RS.sum()
