"""Weights in files behave as a dictionary of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch

from tasks.models.saved.spill import SpilledWeights
from tasks.pruning.core import driver
from tasks.pruning.core.registry import get, parse_target
from tasks.pruning.core.sparsity import layer_sparsity


def test_behaves_as_a_dictionary(tmp_path: Path) -> None:
    spilled = SpilledWeights(tmp_path / "spill")
    matrix = torch.randn(3, 4).T
    spilled["a.weight"] = matrix
    spilled["b/../c"] = torch.ones(2, dtype=torch.bfloat16)
    assert list(spilled) == ["a.weight", "b/../c"] and len(spilled) == 2
    assert torch.equal(spilled["a.weight"], matrix)
    assert spilled["b/../c"].dtype == torch.bfloat16
    spilled["a.weight"] = torch.zeros(1)
    assert torch.equal(spilled["a.weight"], torch.zeros(1)) and len(spilled) == 2
    del spilled["a.weight"]
    assert "a.weight" not in spilled
    with pytest.raises(KeyError):
        spilled["a.weight"]
    assert all(path.parent == tmp_path / "spill" for path in tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("name", ["magnitude", "wanda", "sparsegpt", "wanda_sp"])
def test_pruning_into_files_is_pruning(name: str, tmp_path: Path) -> None:
    found, tokens = tiny.decoder("llama"), tiny.tokens()
    spilled = SpilledWeights(tmp_path / "spill")
    target = parse_target("0.5")
    inside = driver.prune(get(name)(), found, target, tokens_NL=tokens)
    outside = driver.prune(get(name)(), found, target, tokens_NL=tokens, into=spilled)
    assert outside.weights is spilled
    assert dict(inside.weights).keys() == dict(spilled).keys()
    assert all(torch.equal(weight, spilled[key]) for key, weight in inside.weights.items())
    by_layer = layer_sparsity(found, spilled)
    assert by_layer == layer_sparsity(found, inside.weights)
