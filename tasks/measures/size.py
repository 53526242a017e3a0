"""What a model weighs, as a measure."""

from __future__ import annotations

from typing import Any

from configs.frozen import Frozen
from tasks.measures.base import Measure


class SizeSettings(Frozen):
    """Size is measured always, and has no field."""


class Size(Measure):
    """weights, those that are not zero, and bytes on disk"""

    name = "size"
    summary = "weights, those that are not zero, and bytes on disk"
    Settings = SizeSettings

    def columns(self, found: Any) -> Any:
        raise NotImplementedError

    def figures(self, columns: Any) -> Any:
        raise NotImplementedError
