"""What cannot be pruned. Apart from the methods, for a refusal must not wait for torch."""

from __future__ import annotations


class UnsupportedLayerError(ValueError):
    """A layer that the method or target cannot prune, with the reason."""


class UnsupportedModelError(ValueError):
    """A model that loads but cannot be pruned or saved faithfully, with the reason."""
