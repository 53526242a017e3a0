"""What can go wrong with a model that loads, and with a source that is there but out of reach."""

from __future__ import annotations

from tasks.pruning.core.refusals import UnsupportedModelError

__all__ = ["SourceUnavailableError", "UnsupportedModelError"]


class SourceUnavailableError(RuntimeError):
    """A model or data set that could not be reached now and may be later: worth a retry.

    Args:
        source: what was asked for, as the user wrote it.
        reason: what happened.
    """

    def __init__(self, source: str, reason: str) -> None:
        self.source = source
        self.reason = reason
        super().__init__(f"{source} cannot be reached: {reason}")

    def __reduce__(self) -> tuple[type[SourceUnavailableError], tuple[str, str]]:
        return (type(self), (self.source, self.reason))
