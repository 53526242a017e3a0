"""The error of each pruned layer's output as a measure."""

from __future__ import annotations

from typing import Any

from configs.frozen import Frozen
from tasks.measures.base import Measure


class ReconstructionSettings(Frozen):
    """Whether layers are compared with the dense ones."""

    reconstruction: bool = True
    """Compare each pruned layer's output with the dense one's, on a few evaluation windows."""


class Reconstruction(Measure):
    """mean relative error of a pruned layer's output, on the dense model's inputs"""

    name = "reconstruction"
    summary = "mean relative error of a pruned layer's output, on the dense model's inputs"
    Settings = ReconstructionSettings

    def columns(self, found: Any) -> Any:
        raise NotImplementedError

    def figures(self, columns: Any) -> Any:
        raise NotImplementedError
