"""Which models lie in memory beside each other."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tasks.models import resident
from tasks.models.resident import dense_model, placed_model, pruned_model
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
