"""How many channels each block loses: the cheapest allocation of a total.

Each block's loss is taken for a·n + b·n², n the share that it loses, with a, b ≥ 0: convex, so
that removing step by step where the next step costs least is the optimum.

Shapes: ``L`` blocks, ``P`` points of one block.
"""

from __future__ import annotations

import heapq

import torch
from torch import Tensor

_BROKEN = 1e30
"""Nats that a share costs of a block without which the model overflows."""


def fitted(shares_P: Tensor, losses_P: Tensor, share: float) -> tuple[float, float]:
    """(a, b) ≥ 0 with the least squares of f(x) − f(``share``) at the points, float64.

    Args:
        shares_P: removed shares at which the loss was measured.
        losses_P: how much it lay above the loss at ``share``.
    """
    design_P2 = torch.stack([shares_P - share, shares_P.square() - share**2], dim=1).double()
    wanted_P = losses_P.double()
    if not torch.isfinite(wanted_P).all():  # the model breaks: nothing costs more
        return _BROKEN, 0.0
    best, least = (0.0, 0.0), float(wanted_P.square().sum())
    # Non-negative least squares of two unknowns: both free, or one of them zero.
    for columns in ([0, 1], [0], [1]):
        found = torch.linalg.lstsq(design_P2[:, columns], wanted_P[:, None]).solution[:, 0]
        if not torch.isfinite(found).all() or (found < 0).any():
            continue
        rest = float((design_P2[:, columns] @ found - wanted_P).square().sum())
        if rest < least:
            full = dict(zip(columns, found.tolist(), strict=True))
            best, least = (full.get(0, 0.0), full.get(1, 0.0)), rest
    return best


def allocated(
    curves: list[tuple[float, float]], channels: int, total: int, most: float
) -> list[int]:
    """Channels that each block loses, ``total`` in all; equal costs go to the fuller block.

    Args:
        curves: (a, b) of each block.
        most: the largest share that a block may lose, as long as the total can be met.
    """
    blocks = len(curves)
    # A block keeps a channel; a cap below the total's own share cannot hold.
    cap = min(channels - 1, max(int(most * channels), -(-total // blocks)))
    if total > cap * blocks:
        raise ValueError(f"{total} channels of {blocks} blocks of {channels} cannot go")
    step = max(1, channels // 64)
    lost = [0] * blocks

    def cost(block: int, size: int) -> float:
        a, b = curves[block]
        before, after = lost[block] / channels, (lost[block] + size) / channels
        return (a * (after - before) + b * (after**2 - before**2)) / size

    queue = [(cost(block, step), 0, block) for block in range(blocks)]
    heapq.heapify(queue)
    left = total
    while left:
        _, _, block = heapq.heappop(queue)
        size = min(step, left, cap - lost[block])
        lost[block] += size
        left -= size
        if lost[block] < cap:
            heapq.heappush(queue, (cost(block, step), lost[block], block))
    return lost
