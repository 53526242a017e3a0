"""Which heads and channels each block keeps, as JSON: sizes, and index ranges such as ``0-6,9``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tasks.models.errors import UnsupportedModelError
from tasks.pruning.core.structure import Kept

_RANGES = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*", re.ASCII)
_LARGEST = 1 << 24
"""No block has more of anything; a damaged number must not allocate the machine's memory."""


def kept_to_json(kept: Sequence[Kept]) -> dict[str, Any]:
    """Plain JSON that :func:`kept_of_json` reads back.

    Raises:
        ValueError: blocks of different full sizes, or none.
    """
    sizes = {(entry.groups_G.numel(), entry.channels_C.numel()) for entry in kept}
    if len(sizes) != 1:
        raise ValueError(f"blocks share one full size, not {sorted(sizes)}")
    groups, channels = sizes.pop()
    blocks = [
        {"groups": _ranges(entry.groups_G), "channels": _ranges(entry.channels_C)} for entry in kept
    ]
    return {"groups": groups, "channels": channels, "blocks": blocks}


def kept_of_json(value: Any) -> tuple[Kept, ...]:
    """What :func:`kept_to_json` wrote.

    Raises:
        UnsupportedModelError: it is damaged, with the block and the field.
    """
    try:
        groups, channels, blocks = value["groups"], value["channels"], value["blocks"]
    except (TypeError, KeyError) as error:
        raise UnsupportedModelError("kept needs groups, channels and blocks") from error
    for name, size in (("groups", groups), ("channels", channels)):
        if type(size) is not int or not 0 < size <= _LARGEST:
            raise UnsupportedModelError(f"kept.{name} is {size!r}; it is a number of {name}")
    if not isinstance(blocks, list) or not blocks:
        raise UnsupportedModelError("kept.blocks is no list with an entry for each block")
    kept: list[Kept] = []
    for index, block in enumerate(blocks):
        if not isinstance(block, dict):
            raise UnsupportedModelError(f"kept.blocks[{index}] has no groups and channels")
        groups_G, channels_C = (
            _flags(block.get(name), size, f"kept.blocks[{index}].{name}")
            for name, size in (("groups", groups), ("channels", channels))
        )
        kept.append(Kept(groups_G, channels_C))
    return tuple(kept)


def _ranges(flags: Tensor) -> str:
    """Inclusive ranges of the indices that are True."""
    padded = torch.nn.functional.pad(flags.cpu().int(), (1, 1)).diff()
    starts = (padded == 1).nonzero().flatten().tolist()
    ends = (padded == -1).nonzero().flatten().tolist()
    return ",".join(
        str(start) if end == start + 1 else f"{start}-{end - 1}"
        for start, end in zip(starts, ends, strict=True)
    )


def _flags(ranges: Any, size: int, field: str) -> Tensor:
    if not isinstance(ranges, str) or not _RANGES.fullmatch(ranges):
        raise UnsupportedModelError(
            f"{field} is {str(ranges)[:60]!r}; it lists at least one index, as in 0-6,9"
        )
    flags, after = torch.zeros(size, dtype=torch.bool), 0
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        start, end = int(first), int(last or first) + 1
        if not after <= start < end <= size:
            raise UnsupportedModelError(
                f"{field} holds {part}; indices rise from 0 to {size - 1}, each named once"
            )
        flags[start:end] = True
        after = end
    return flags
