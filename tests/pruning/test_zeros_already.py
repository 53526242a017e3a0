"""Weights that are zero already are part of the count, whatever inputs they have."""

from __future__ import annotations

import pytest
import torch
from support.contract import METHODS
from torch import Tensor

from tasks.pruning.core import masks
from tasks.pruning.core.methods import BlockMethod, LayerMethod, OneShotMethod
from tasks.pruning.core.registry import methods, parse_target
from tasks.pruning.core.statistics import ColumnCollector
from tasks.pruning.sparsegpt import SparseGPT

CPU = torch.device("cpu")
ROWS, COLUMNS = 48, 128
OPTIONS = {
    "magnitude": [{}, {"compare": "row"}],
    "swiftprune": [
        {"contribution": contribution, "selection": selection}
        for contribution in ("weight", "output")
        for selection in ("ewma", "exact")
    ],
    "sketched_obs": [{"directions": 4}],
    "sparsegpt": [{"block_size": 32}],
}
"""Those that choose another way to count, or that leave little to count; else the defaults."""
ONE_SHOT = [
    methods()[name](**options)
    for name in METHODS
    if issubclass(methods()[name], OneShotMethod)
    for options in OPTIONS.get(name, [{}])
]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _of_columns(*bounds: int) -> Tensor:
    zero_OI = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
    zero_OI[:, slice(*bounds)] = True
    return zero_OI


DRAWN_OI = torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(1))
DEAD = {"none": (0, 0), "last": (96, 128), "every third": (0, 128, 3)}
"""Inputs that are always zero, such as those behind a ReLU that never fires."""
ZEROS = {
    "none": _of_columns(0, 0),
    "a few": DRAWN_OI < 0.05,
    "right half's": (DRAWN_OI < 0.7) & _of_columns(64, 128),
    "first columns": _of_columns(0, 32),
    "last columns": _of_columns(96, 128),
    "some columns": _of_columns(16, 80) | (DRAWN_OI < 0.1),
    "some rows": torch.linspace(0, 0.8, ROWS)[:, None] > DRAWN_OI,
    "all": DRAWN_OI < 2,
}


def pruned(method: OneShotMethod, weight_OI: Tensor, inputs_NLI: Tensor, target: str) -> Tensor:
    generator, asked = torch.Generator().manual_seed(0), parse_target(target)
    if isinstance(method, LayerMethod):
        sums = ColumnCollector(COLUMNS, CPU, method.sketch)
        sums.add(inputs_NLI)
        return method.prune_layer(weight_OI, sums.result(), asked, generator)
    assert isinstance(method, BlockMethod)
    collector = method.collector(COLUMNS, CPU)
    collector.add(inputs_NLI)
    return method.prune_layer(weight_OI, collector, asked, generator)


def label(method: OneShotMethod) -> str:
    chosen = (getattr(method, name, "") for name in ("compare", "contribution", "selection"))
    return "-".join(filter(None, (method.name, *chosen)))


@pytest.mark.parametrize("dead", DEAD)
@pytest.mark.parametrize("method", ONE_SHOT, ids=label)
def test_a_layer_has_what_was_asked_or_what_was_there(method: OneShotMethod, dead: str) -> None:
    inputs_NLI = random(4, 64, COLUMNS, seed=1)
    inputs_NLI[..., slice(*DEAD[dead])] = 0
    for zeros, zero_OI in ZEROS.items():
        weight_OI = random(ROWS, COLUMNS).masked_fill(zero_OI, 0)
        for target in ("0.3", "0.5"):
            result_OI = pruned(method, weight_OI, inputs_NLI, target)
            reached, there = (float(m.float().mean()) for m in (result_OI == 0, zero_OI))
            expected = max(float(target), there)
            assert reached == pytest.approx(expected, abs=masks.TOLERANCE), (zeros, target)


@pytest.mark.parametrize("method", ONE_SHOT, ids=label)
def test_a_group_loses_no_more_than_its_zeros_leave_to_lose(method: OneShotMethod) -> None:
    """Weights of inputs that are always zero score as low as weights that are zero."""
    inputs_NLI = random(4, 64, COLUMNS, seed=1)
    inputs_NLI[..., 0::4] = inputs_NLI[..., 1::4] = 0
    zero_OI = DRAWN_OI < 0.2
    result_OI = pruned(method, random(ROWS, COLUMNS).masked_fill(zero_OI, 0), inputs_NLI, "2:4")
    found, there = ((m.reshape(-1, 4)).sum(dim=1) for m in (result_OI == 0, zero_OI))
    assert (found >= 2).all()
    assert (found <= there.clamp(min=2)).all()


def test_a_block_of_columns_with_more_zeros_than_its_share_keeps_them() -> None:
    """And where none has, SparseGPT's own rule holds: as much of each block."""
    inputs_NLI = random(4, 64, COLUMNS, seed=1)
    method = SparseGPT(block_size=32)
    for zeros in ("first columns", "last columns"):
        weight_OI = random(ROWS, COLUMNS).masked_fill(ZEROS[zeros], 0)
        result_OI = pruned(method, weight_OI, inputs_NLI, "0.5")
        assert not result_OI[ZEROS[zeros]].any()
        others = [part for part in result_OI.split(32, 1) if part.any()]
        shares = [float((part == 0).float().mean()) for part in others]
        assert shares == pytest.approx([1 / 3] * 3, abs=1e-3)
    plain = pruned(method, random(ROWS, COLUMNS).masked_fill(ZEROS["a few"], 0), inputs_NLI, "0.5")
    assert [int((part == 0).sum()) for part in plain.split(32, 1)] == [ROWS * 16] * 4
