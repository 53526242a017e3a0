"""Which models lie in memory beside each other, and where."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from torch import nn

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.compression import checkpoint, statistics
from tasks.measures.reconstruction import measure as reconstruction
from tasks.models import resident
from tasks.models.load import weight_bytes
from tasks.models.resident import dense_model, placed_model, pruned_model
from tasks.pruning.core.registry import get
from tasks.runtime.memory import Peak
from tasks.store.context import Context
from tasks.store.store import Store

LOADERS = ("load_model", "load_pruned", "load_placed")


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, set[str]]]:
    """Which models were in memory when one was loaded."""
    loads: list[tuple[str, set[str]]] = []
    alive: dict[str, weakref.ref[nn.Module]] = {}

    def loader(name: str) -> Callable[..., nn.Module]:
        def load(*_: Any, **__: Any) -> nn.Module:
            loads.append((name, {other for other, model in alive.items() if model() is not None}))
            model = nn.Linear(2, 2)
            alive[name] = weakref.ref(model)
            return model

        return load

    for name in LOADERS:
        monkeypatch.setattr(resident, name, loader(name))
    return loads


def test_a_model_that_is_spread_is_alone(there: list[tuple[str, set[str]]], tmp_path: Path) -> None:
    context, folder = Context(Store(tmp_path)), tmp_path
    for _ in range(2):
        dense_model(context, folder, "float32")
        pruned_model(context, folder, "float32")
    for _ in range(2):
        placed_model(context, folder, "float32", {})
    pruned_model(context, folder, "float32")
    placed_model(context, folder, "float32", {})
    dense_model(context, folder, "float32")
    assert there == [
        ("load_model", set()),
        ("load_pruned", {"load_model"}),
        ("load_placed", set()),
        ("load_pruned", set()),
        ("load_placed", set()),
        ("load_model", set()),
    ]
    context.loaded.release()


GPU = torch.device("cuda", 0)


@pytest.fixture
def homes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where models were loaded to, of 80 bytes, on a GPU that may hold 100."""
    found: list[str] = []

    def load(folder: Path, dtype: torch.dtype, device: torch.device, trust: Trust) -> nn.Module:
        found.append(f"{dtype} {device.type}".removeprefix("torch."))
        return nn.Linear(2, 2)

    monkeypatch.setattr(resident, "best_device", lambda: GPU)
    monkeypatch.setattr(resident, "load_model", load)
    monkeypatch.setattr(resident, "weight_bytes", lambda *_: 80)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (40, 200))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 60)
    return found


@pytest.mark.parametrize(
    ("size", "by_block", "home"),
    [(80, True, "cuda"), (81, True, "cpu"), (10**9, True, "cpu"), (100, False, "cuda")],
)
def test_a_model_that_leaves_no_room_for_work_stays_in_main_memory(
    size: int, by_block: bool, home: str, homes: list[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(resident, "weight_bytes", lambda *_: size)
    for _ in range(2):
        dense_model(Context(Store(tmp_path)), tmp_path, "bfloat16", by_block=by_block)
    assert homes == [f"bfloat16 {home}"] * 2


def test_it_goes_to_the_gpu_for_who_needs_all_of_it(
    homes: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resident, "weight_bytes", lambda *_: 90)
    context = Context(Store(tmp_path))
    for by_block in (True, True, False):
        dense_model(context, tmp_path, "bfloat16", by_block=by_block)
    assert homes == ["bfloat16 cpu", "bfloat16 cuda"]


def test_more_than_a_gpu_holds_is_refused_with_sizes_and_a_way(
    homes: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(resident, "weight_bytes", lambda *_: 140 << 30)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (79 << 30, 80 << 30))
    with pytest.raises(ConfigurationError) as raised:
        dense_model(Context(Store(tmp_path)), tmp_path / "large", "bfloat16")
    told = "models: 'large' is not possible; its weights take 140.0 GiB, and the GPU has 79.0 GiB"
    assert str(raised.value).startswith(told)
    assert "evaluation.device_map: auto" in str(raised.value)
    assert homes == []


@pytest.mark.parametrize("tied", [False, True])
def test_bytes_of_weights_are_known_before_they_are_loaded(tied: bool, tmp_path: Path) -> None:
    model = tiny.llama(tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        file.unlink()
    assert weight_bytes(tmp_path, torch.bfloat16, Trust()) == 2 * model.num_parameters()


class ReachedError(Exception):
    """What would prune or compare block by block."""


@pytest.mark.parametrize(
    ("module", "works", "method", "by_block"),
    [
        (statistics, "collect_statistics", "", True),
        (reconstruction, "reconstruction_errors", "", True),
        (checkpoint, "prune", "wanda", True),
        (checkpoint, "prune", "wanda_sp", True),
        (checkpoint, "prune", "policy_gradient", False),
        (checkpoint, "prune", "ast", False),
    ],
)
def test_work_block_by_block_is_done_on_the_gpu_wherever_the_model_lies(
    module: Any, works: str, method: str, by_block: bool, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    asked: list[bool] = []

    def model(*_: Any, by_block: bool = False) -> nn.Module:
        asked.append(by_block)
        return tiny.llama()

    def reached(*_: Any, device: torch.device, **__: Any) -> None:
        assert device == GPU
        raise ReachedError

    monkeypatch.setattr(module, "dense_model", model)
    monkeypatch.setattr(module, "best_device", lambda: GPU)
    if module is checkpoint:
        monkeypatch.setattr(checkpoint, "measured", lambda _: nullcontext(Peak()))
        monkeypatch.setattr(checkpoint.driver, "prune", reached)
        monkeypatch.setattr(checkpoint, "_retrain", lambda *_: reached(device=GPU))
        monkeypatch.setattr(checkpoint, "load_counted", lambda _: None)
    else:
        monkeypatch.setattr(module, works, reached)
    monkeypatch.setattr(module, "load_tokens", lambda _: tiny.tokens())
    if module is reconstruction:
        monkeypatch.setattr(reconstruction, "_pruned_weights", lambda *_: {})
    step = SimpleNamespace(
        inputs={"windows": 1, "dtype": "float32"},
        needs=["training"] if method in ("policy_gradient", "ast") else [],
    )
    artifact = SimpleNamespace(path=tmp_path, facts={"prefix": []})
    work: Any = SimpleNamespace(
        context=None, step=step, need=lambda _: artifact, out=tmp_path, progress=None
    )
    evaluation = SimpleNamespace(batch_size=1)
    other: Any = SimpleNamespace(dtype="float32", exclude=(), evaluation=evaluation)
    if method:
        other = SimpleNamespace(
            dtype="float32", exclude=(), method=get(method)(), target=None, seed=0
        )
    with pytest.raises(ReachedError):
        if module is checkpoint:
            checkpoint._prune(work, other)
        elif module is reconstruction:
            reconstruction._produce(work, other)
        else:
            statistics._produce(work)
    assert asked == [by_block]
