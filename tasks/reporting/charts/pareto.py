"""Which of several points no other beats."""

from __future__ import annotations

import math
from collections.abc import Sequence


def pareto_front(
    points: Sequence[Sequence[float]], *, lower_is_better: Sequence[bool]
) -> list[bool]:
    """Whether each point is on the Pareto front: no other is at least as good in every coordinate
    and better in one. Of equal points all are, or none; a point with a NaN never is.

    Args:
        points: each with as many coordinates as ``lower_is_better``.

    Raises:
        ValueError: a point has another number of coordinates.
    """
    for point in points:
        if len(point) != len(lower_is_better):
            raise ValueError(f"{len(lower_is_better)} coordinates are expected, not {len(point)}")
    costs = [
        tuple(v if lower else -v for v, lower in zip(point, lower_is_better, strict=True))
        for point in points
    ]
    # What beats a point comes before it in lexicographic order, and if that one is itself beaten,
    # then by one that is on the front: each needs comparing with the front so far only.
    front: list[tuple[float, ...]] = []
    on_front = [False] * len(points)
    for place in sorted(
        (k for k, cost in enumerate(costs) if not any(map(math.isnan, cost))),
        key=lambda k: costs[k],
    ):
        cost = costs[place]
        if not any(_beats(other, cost) for other in front):
            on_front[place] = True
            front.append(cost)
    return on_front


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
