"""Which of several points no other beats."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pareto_front(
    points: Sequence[Sequence[float]],
    *,
    lower_is_better: Sequence[bool],
    noise: Sequence[float] = (),
) -> list[bool]:
    """Whether each point is on the Pareto front: no other is at least as good in every coordinate
    and better in one. Of equal points all are, or none; a point with a NaN never is.

    Args:
        points: each with as many coordinates as ``lower_is_better``.
        noise: of each coordinate, the part of it by which another has to differ to count as better
            or worse; none where it is empty.

    Raises:
        ValueError: a point has another number of coordinates.
    """
    for point in points:
        if len(point) != len(lower_is_better):
            raise ValueError(f"{len(lower_is_better)} coordinates are expected, not {len(point)}")
    parts = noise or [0.0] * len(lower_is_better)
    costs = [
        [v if lower else -v for v, lower in zip(point, lower_is_better, strict=True)]
        for point in points
    ]

    def beats(one: Sequence[float], other: Sequence[float]) -> bool:
        pairs = list(zip(one, other, parts, strict=True))
        return not any(_less(b, a, part) for a, b, part in pairs) and any(
            _less(a, b, part) for a, b, part in pairs
        )

    known = [cost for cost in costs if not any(map(math.isnan, cost))]
    return [cost in known and not any(beats(other, cost) for other in known) for cost in costs]


def _less(a: float, b: float, part: float) -> bool:
    """Whether ``a`` is less than ``b`` by more than ``part`` of the larger of the two."""
    return a < b and not (part and b - a <= part * max(abs(a), abs(b)))
