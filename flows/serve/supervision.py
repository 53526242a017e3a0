"""When a child of ``secateur up`` that ended by itself is started again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

ATTEMPTS = 6
_LONGEST_WAIT = 60.0
_STEADY_SECONDS = 120.0


@dataclass
class Restarts:
    """Restarts of one service: each follows after twice the wait of the one before.

    A service that then ran for two minutes is steady, and its next end counts as the first.

    Attributes:
        now: the clock, in seconds.
    """

    now: Callable[[], float] = time.monotonic
    count: int = 0
    _started: float = field(init=False)
    _ended: float | None = None

    def __post_init__(self) -> None:
        self._started = self.now()

    def ended(self) -> float:
        """Note that the service is found ended; the seconds until it may start again."""
        if self._ended is None:
            self._ended = self.now()
            self.count = 0 if self._ended - self._started > _STEADY_SECONDS else self.count
        wait = min(2.0**self.count - 1, _LONGEST_WAIT)
        return max(0.0, self._ended + wait - self.now())

    def started(self) -> None:
        """Note that it was started again."""
        self.count, self._started, self._ended = self.count + 1, self.now(), None

    @property
    def hopeless(self) -> bool:
        """Whether it ended again and again: to start it once more helps nobody."""
        return self.count >= ATTEMPTS
