"""A pool that is larger than memory: what is held does not grow with it, and nothing else changes.

What is held is counted, tensor by tensor, and not asked of the system.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file
from selection.test_gradients import branches_of, loss_of
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tasks.compression.mapped import mapped
from tasks.selection.coreset import gradients, norms, rows
from tasks.selection.coreset.gradients import Warmup, features
from tasks.selection.coreset.norms import column_squares
from tasks.selection.coreset.quality import column_norm_error, mean_error, random_error
from tasks.selection.coreset.rows import Rows, rows_of
from tasks.selection.coreset.select import Choice, Selection, _own_order, select

COLUMNS = 256
METHODS = ("tagcos", "omp", "kmeans", "stratified", "medoids")


class Held(TorchDispatchMode):
    """Bytes of the tensors that were made while this is open and still are there."""

    def __init__(self, *outside: Tensor) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = {tensor.untyped_storage().data_ptr() for tensor in outside}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, Tensor):
                self._see(tensor.untyped_storage())
        return found

    def _see(self, storage: torch.UntypedStorage) -> None:
        place, size = storage.data_ptr(), storage.nbytes()
        if not size or place in self._known:
            return
        self._known.add(place)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, place, size)

    def _gone(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size


def test_what_is_held_is_counted() -> None:
    outside = torch.zeros(1000)
    with Held(outside) as held:
        kept = torch.zeros(100)
        view = kept[:50].view(5, 10)
        outside.add_(1)
        for _ in range(3):
            torch.ones(25)
        assert held.now == 400
        assert held.most == 500
        del kept, view
        assert held.now == 0


def pool(windows: int, columns: int = COLUMNS) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(6, columns, generator=generator)
    noise = torch.randn(windows, columns, generator=generator)
    return 0.1 * noise + centres[torch.randint(6, (windows,), generator=generator)]


def grows(held: Callable[[int], int], few: int, many: int) -> float:
    """Bytes that are held for one row more."""
    return (held(many) - held(few)) / (many - few)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 32 rows, in float64; 64 are held."""
    monkeypatch.setattr(rows, "HELD_BYTES", 64 * COLUMNS * 8)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 32 * COLUMNS * 8)


@pytest.mark.parametrize("method", METHODS)
def test_choosing_holds_a_few_numbers_a_row(small_blocks: None, method: str) -> None:
    def held(windows: int) -> int:
        x_ND = pool(windows)
        choice = Choice(count=12, method=method)  # type: ignore[arg-type]
        with Held(x_ND) as seen:
            found = select(x_ND, choice, torch.Generator().manual_seed(0))
            mean_error(x_ND, found.index, found.weight)
            random_error(x_ND, 12)
            column_norm_error(x_ND.abs(), found.index, found.weight)
        return seen.most - windows * COLUMNS * 4  # what abs() made here

    # A row is 1024 bytes as it is stored, 2048 as it is looked at.
    assert grows(held, 200, 520) < 256


@pytest.mark.parametrize("method", METHODS)
def test_picks_are_the_same_from_a_file_and_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    x_ND = pool(300, 32)
    file_ND = mapped(tmp_path / "x.safetensors", {"x": (300, 32)})["x"]
    file_ND.copy_(x_ND)

    def chosen(given_ND: Tensor) -> Selection:
        choice = Choice(count=20, method=method, weights="pursuit")  # type: ignore[arg-type]
        return select(given_ND, choice, torch.Generator().manual_seed(0))

    def require_same(found: Selection, expected: Selection) -> None:
        assert (found.index, found.cluster) == (expected.index, expected.cluster)
        assert found.weight == pytest.approx(expected.weight, rel=1e-6)

    at_once = chosen(x_ND)
    require_same(chosen(file_ND), at_once)
    monkeypatch.setattr(rows, "HELD_BYTES", 20 * 32 * 8)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 7 * 32 * 8)
    require_same(chosen(x_ND), at_once)
    require_same(chosen(file_ND), at_once)


def test_rows_in_blocks_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    x_ND = pool(30, 4)
    index = torch.randperm(30, generator=torch.Generator().manual_seed(1))[:20]
    expected = x_ND[index].double()
    shift_D = expected.mean(dim=0)
    monkeypatch.setattr(rows, "BLOCK_BYTES", 3 * 4 * 8)
    for bytes_ in (32 << 20, 3 * 4 * 8):
        monkeypatch.setattr(rows, "HELD_BYTES", bytes_)
        found = rows_of(x_ND, index).less(shift_D)
        assert isinstance(found, Rows)
        blocks = [block for _, block in found.blocks()]
        assert len(blocks) == (1 if bytes_ > 1000 else 7)
        torch.testing.assert_close(torch.cat(blocks), expected - shift_D)
        torch.testing.assert_close(found.only([3, 1]).take([1]), (expected - shift_D)[[1]])
        torch.testing.assert_close(found.mean(), torch.zeros_like(shift_D))
        torch.testing.assert_close(found.squares(), (expected - shift_D).square().sum(1))
        torch.testing.assert_close(found.times(shift_D), (expected - shift_D) @ shift_D)
        torch.testing.assert_close(
            found.distances(shift_D), (expected - 2 * shift_D).square().sum(1)
        )


@pytest.mark.parametrize("values", [1, 2, 3, 1000])
def test_the_order_is_that_of_all_columns(values: int) -> None:
    x_ND = torch.randint(values, (60, 3), generator=torch.Generator().manual_seed(values)).float()
    expected = sorted(range(60), key=lambda row: (*x_ND[row].tolist(), row))
    assert _own_order(x_ND).tolist() == expected


def test_describing_holds_nothing_of_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "_HELD", 0)
    monkeypatch.setattr(norms, "_HELD", 1 << 12)
    model = tiny.llama()
    branches = branches_of(model, rank=1, names=("o_proj",))
    layers = {name: place.module for name, place in branches.places.items()}

    def held(windows: int) -> int:
        windows_NT = tiny.tokens(windows, 6)
        shape = (windows, COLUMNS)
        tensors = mapped(tmp_path / f"{windows}", {"x_ND": shape, "raw_ND": shape})
        into = tensors["x_ND"], tensors["raw_ND"]
        with Held(windows_NT, into[0]) as seen:
            column_squares(layers, loss_of(model), windows_NT, batch=4)
            found = features(
                branches,
                loss_of(model),
                windows_NT,
                warmup=Warmup(steps=2, checkpoints=1, batch=2, learning_rate=0.1),
                dimensions=COLUMNS,
                form="adam",
                generator=torch.Generator().manual_seed(0),
                seed=0,
                batch=4,
                into=into,
            )
        assert found.x_ND is into[0]
        written = load_file(tmp_path / f"{windows}")
        assert torch.equal(written["x_ND"], found.x_ND)
        assert written["raw_ND"].any(dim=1).all()
        return seen.most

    held(8)  # what a model makes once
    assert grows(held, 16, 48) < 16


def test_a_mapped_file_is_an_ordinary_one(tmp_path: Path) -> None:
    shapes = {"a": (2, 3), "empty": (0, 4), "b": (5,)}
    tensors = mapped(tmp_path / "m.safetensors", shapes)
    assert not any(tensor.any() for tensor in tensors.values())
    tensors["a"][:] = torch.arange(6.0).view(2, 3)
    tensors["b"][-1] = 7.0
    found = load_file(tmp_path / "m.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == shapes
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"(?i)space|large|memory"):
        mapped(tmp_path / "m", {"a": (1 << 20, 1 << 30)})
