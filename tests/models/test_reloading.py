"""Checkpoints of many families, loaded again by stock transformers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from support import families
from support.reloading import RELATIVE, names_in, reload_difference

from configs.trust import Trust
from tasks.models.architecture.decoder import describe
from tasks.models.load import load_model
from tasks.models.saved import save as saving
from tasks.pruning.core import driver
from tasks.pruning.core.targets import Fraction
from tasks.pruning.magnitude import Magnitude

FAMILIES = [
    "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi", "phi3", "gpt2",
    "gpt_neo", "gpt_neox", "gptj", "opt", "bloom", "falcon", "granite", "olmo2", "cohere",
    "smollm3", "stablelm", "starcoder2", "mixtral", "qwen3_moe", "gpt_oss", "deepseek_v3",
    "bamba", "falcon_h1", "qwen3_next", "mpt",
]  # fmt: skip


TABLE = Path(__file__).parents[1] / "benchmarks" / "families.md"


def test_the_table_of_families_says_so() -> None:
    rows = re.findall(r"^\| (\S+) \| \S+ \| right \| reloads \|", TABLE.read_text(), re.MULTILINE)
    assert len(FAMILIES) >= 25
    assert set(FAMILIES) <= set(rows)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_has_the_perplexity_of_what_was_pruned(family: str, tmp_path: Path) -> None:
    assert reload_difference(family, tmp_path) <= RELATIVE


@pytest.mark.parametrize("shard", ["5GB", "40KB"])
@pytest.mark.parametrize("family", ["gpt2", "bloom"])
def test_names_are_those_that_a_base_class_gave_the_source(
    family: str, shard: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub's gpt2 and bloom name their tensors: without ``transformer.``."""
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(saving, "_SHARD_SIZE", shard)
    source, out = tmp_path / "source", tmp_path / "out"
    families.model_of(family).transformer.save_pretrained(source)
    assert any(name.startswith("h.0.") for name in names_in(source))
    dense = load_model(source, torch.float32, torch.device("cpu"), Trust())
    weights = driver.prune(Magnitude(), describe(dense), Fraction(0.5)).weights
    saving.save_checkpoint(dense, source, weights, out, dtype=torch.float32, metadata={})
    assert names_in(out) == names_in(source)
    assert len(list(out.glob("*.safetensors"))) == 1 or shard == "40KB"
    loaded = AutoModelForCausalLM.from_pretrained(out, local_files_only=True)
    expected = dense.state_dict() | weights
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, expected[name]), name
