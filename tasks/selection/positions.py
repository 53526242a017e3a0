"""Where windows begin, from counts alone: ``contiguous``, ``random`` and ``spread``.

Each is a function of how many tokens there are, never of the text. Offsets are in tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def contiguous(step: int, count: int) -> Tensor:
    """Offsets of ``count`` windows of ``step`` tokens, one after another from the start."""
    return torch.arange(count) * step


def random(tokens: int, step: int, count: int, seed: int) -> Tensor:
    """Offsets drawn independently and uniformly from all that leave a full window.

    Windows may overlap. The generator runs on the CPU, so that a seed means the same everywhere.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(tokens - step + 1, (count,), generator=generator)


def spread(tokens: int, step: int, count: int) -> Tensor:
    """Offsets of ``count`` windows without overlap, spread evenly over all tokens.

    The tokens are cut into full windows, these into ``count`` equal stretches, and the middle one
    of each stretch is taken: every document gets windows by its length.

    Raises:
        ValueError: there are fewer full windows than ``count``.
    """
    return evenly(tokens // step, count) * step


def evenly(available: int, count: int) -> Tensor:
    """``count`` of ``available`` indices in ascending order, the middle of equal stretches.

    Raises:
        ValueError: for more than there are.
    """
    if count > available:
        raise ValueError(f"{count} of {available} are to be spread: at most {available}")
    numbers = torch.arange(count)
    return ((2 * numbers + 1) * available) // (2 * count)


def shares(sizes: Sequence[float], total: int, most: Sequence[int]) -> list[int]:
    """Whole numbers in proportion to ``sizes`` that sum to ``total``.

    Where ``total`` allows it, whoever has a size gets at least one. Each seat goes to whoever is
    furthest below its quota, the first of equals.

    Args:
        sizes: not negative, not all zero.
        most: what each can take.

    Raises:
        ValueError: all together can take less than ``total``.
    """
    if sum(most) < total:
        raise ValueError(f"{total} are asked for, and there are {sum(most)}")
    whole = sum(sizes)
    quotas = [total * size / whole for size in sizes]
    open_ = [index for index, size in enumerate(sizes) if size > 0 and most[index] > 0]
    given = [0] * len(sizes)
    if total >= len(open_):
        for index in open_:
            given[index] = 1
    while sum(given) < total:
        poor = max(
            (i for i in range(len(given)) if given[i] < most[i]),
            key=lambda i: (quotas[i] - given[i], -i),
        )
        given[poor] += 1
    return given
