"""Agreement with the dense model as a measure."""

from __future__ import annotations

from typing import Any

from configs.frozen import Frozen
from tasks.measures.base import Measure


class AgreementSettings(Frozen):
    """Whether pruned models are compared with the dense one."""

    agreement: bool = True
    """Compare with the dense model on the same windows: KL divergence and top-1 agreement."""


class Agreement(Measure):
    """KL divergence from the dense model and how often both predict the same token"""

    name = "agreement"
    summary = "KL divergence from the dense model and how often both predict the same token"
    Settings = AgreementSettings

    def columns(self, found: Any) -> Any:
        raise NotImplementedError

    def figures(self, columns: Any) -> Any:
        raise NotImplementedError
