"""The loss of slot filling.

Shapes: ``B`` candidates, ``S`` columns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tasks.measures.tuning.batches import Batch


def slot_loss(
    logits_BS: Tensor, batch: Batch, *, negative_weight: float, mask_other_events: bool
) -> Tensor:
    """Binary cross-entropy, its negatives weighted, mean over the columns that are asked.

    Args:
        mask_other_events: ask the columns of an instance's own event; else, as published, all,
            although nobody annotated a tweet for other events.
    """
    labels_BS = batch.labels_BS
    weight_BS = labels_BS + (1 - labels_BS) * negative_weight
    asked_BS = batch.asked_BS if mask_other_events else torch.ones_like(batch.asked_BS)
    losses_BS = nn.functional.binary_cross_entropy_with_logits(
        logits_BS, labels_BS, weight=weight_BS * asked_BS, reduction="none"
    )
    return losses_BS.sum() / asked_BS.sum()
