"""What a network learns: the loss of its readings.

Shapes: ``R`` readings, ``S`` columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from tasks.measures.tuning.batches import Batch, Reading


class Objective(Protocol):
    """The loss of a batch: the sum of its terms over their number.

    A dataclass at the top level of its module, with fields that JSON can hold: processes that share
    a batch make their own. Each adds up the terms of its part, and all know the number of all.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def loss(self, logits_RS: Tensor, batch: Batch) -> Tensor:
        """The sum of the terms."""
        ...

    def terms(self, reading: Reading, columns: int) -> int:
        """How many terms one reading adds.

        Args:
            columns: of the network.
        """
        ...


@dataclass(frozen=True)
class OneLabel:
    """Cross-entropy; of each reading one column is true."""

    def loss(self, logits_RS: Tensor, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(logits_RS, batch.labels_RS.argmax(1), reduction="sum")

    def terms(self, reading: Reading, columns: int) -> int:
        del reading, columns
        return 1
