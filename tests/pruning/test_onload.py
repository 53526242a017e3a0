"""Blocks stand for copies while they are at work, and are themselves again afterwards.

The copies lie on the CPU too here; streams and pinned memory are tested on a GPU (tests/gpu).
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tasks.pruning.core.onload import Onload

CPU = torch.device("cpu")


class Copying(Onload):
    """Treats the CPU as another device."""

    def _is_away(self, index: int) -> bool:
        return True


def pointers(block: nn.Module) -> dict[str, int]:
    return {name: tensor.data_ptr() for name, tensor in block.state_dict().items()}


def blocks() -> list[nn.Sequential]:
    return [nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)) for _ in range(2)]


def test_a_block_at_work_stands_for_copies_of_all_it_holds() -> None:
    given = blocks()
    own = [pointers(block) for block in given]
    with Copying(given, CPU) as onload:
        for index in range(2):
            with onload.block(index) as block:
                assert not set(pointers(block).values()) & set(own[index].values())
                block[0].weight.data.zero_()
    assert [pointers(block) for block in given] == own
    assert all(block[0].weight.all() for block in given), "what changed were the copies"


def test_it_is_itself_again_after_an_error() -> None:
    given = blocks()
    own = pointers(given[0])
    with pytest.raises(KeyError), Copying(given, CPU) as onload, onload.block(0):
        raise KeyError
    assert pointers(given[0]) == own


def test_what_is_there_already_is_left_alone() -> None:
    given = blocks()
    own = pointers(given[0])
    with Onload(given, CPU) as onload, onload.block(0) as block:
        assert block is given[0] and pointers(block) == own
