"""A pruned mixture of experts comes back from its checkpoint with the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support import families

from tasks.models.architecture.decoder import describe
from tasks.models.saved.save import save_checkpoint
from tasks.pruning.core import driver
from tasks.pruning.core.targets import Fraction
from tasks.pruning.wanda import Wanda


@pytest.mark.parametrize(
    "family", ["mixtral", "qwen3_moe", "gpt_oss", "granitemoe", "deepseek_v3", "qwen3_next"]
)
def test_reloads_to_the_same_weights(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = families.model_of(family)
    source, out = tmp_path / "source", tmp_path / "out"
    model.save_pretrained(source)
    tokens_NL = families.windows()
    weights = driver.prune(Wanda(), describe(model), Fraction(0.5), tokens_NL=tokens_NL).weights
    save_checkpoint(model, source, weights, out, dtype=torch.float32, metadata={})
    loaded = AutoModelForCausalLM.from_pretrained(out, local_files_only=True)
    expected = model.state_dict() | weights
    assert loaded.state_dict().keys() == expected.keys()
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    for name, layer in describe(loaded).layers().items():
        assert int((layer.stored == 0).sum()) == layer.stored.numel() // 2, name
