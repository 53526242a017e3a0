"""What removed as much from every block is an ordinary model of its family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from structured import ids, masked, model_of
from transformers import AutoModelForCausalLM

from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.models.saved.pruned import load_pruned
from tasks.models.saved.stock import save_stock
from tasks.models.sources.random_model import tokenizer
from tasks.pruning.core.structure import Kept, masked_weights, structure_of


def even_kept(model: torch.nn.Module, groups: int, channels: int) -> tuple[Kept, ...]:
    """Other groups and channels in each block, equally many."""
    decoder = describe(model)  # type: ignore[arg-type]
    structure = structure_of(decoder)
    kept = []
    for index in range(len(decoder.blocks)):
        generator = torch.Generator().manual_seed(index)
        stays = [torch.zeros(n, dtype=torch.bool) for n in (structure.groups, structure.channels)]
        for flags, count in zip(stays, (groups, channels), strict=True):
            flags[torch.randperm(len(flags), generator=generator)[:count]] = True
        kept.append(Kept(*stays))
    return tuple(kept)


def saved(kind: str, folder: Path, groups: int, channels: int) -> tuple[torch.Tensor, str]:
    """(logits of the masked model, model type that was written)."""
    model = model_of(kind)
    kept = even_kept(model, groups, channels)
    model.save_pretrained(folder / "dense")
    tokenizer().save_pretrained(folder / "dense")
    wanted = masked(model, kept)(ids()).logits
    model.load_state_dict(dict(masked_weights(describe(model), kept)), strict=False)
    told = save_stock(model, kept, folder / "dense", folder / "out", metadata={"seed": 3})
    return wanted, told


@pytest.mark.parametrize("kind", ["tied", "mistral", "qwen2", "qwen3", "gemma2"])
def test_stock_classes_load_it_to_the_masked_models_logits(kind: str, tmp_path: Path) -> None:
    structure = structure_of(describe(model_of(kind)))
    groups, channels = max(1, structure.groups // 2), structure.channels // 2
    wanted, _ = saved(kind, tmp_path, groups, channels)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    config = loaded.config
    assert config.num_key_value_heads == groups
    assert config.num_attention_heads == groups * structure.queries
    assert (config.intermediate_size, config.head_dim) == (channels, structure.head_dim)
    torch.testing.assert_close(loaded(ids()).logits, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        load_pruned(tmp_path / "out")(ids()).logits, wanted, rtol=1e-4, atol=1e-5
    )
    assert loaded.num_parameters() < model_of(kind).num_parameters()


def test_blocks_that_differ_are_refused_with_the_numbers(tmp_path: Path) -> None:
    model = model_of("tied")
    kept = [*even_kept(model, 1, 8)[:-1], even_kept(model, 2, 9)[-1]]
    with pytest.raises(UnsupportedModelError, match="from 1 to 2 head groups and from 8 to 9"):
        save_stock(model, kept, tmp_path, tmp_path / "out", metadata={})


def test_weights_that_are_left_where_something_was_removed_are_noticed(tmp_path: Path) -> None:
    """The folder is compared with the model: a dense one is not what it is said to be."""
    model = model_of("tied")
    model.save_pretrained(tmp_path / "dense")
    tokenizer().save_pretrained(tmp_path / "dense")
    with pytest.raises(UnsupportedModelError, match="something else"):
        save_stock(model, even_kept(model, 1, 8), tmp_path / "dense", tmp_path / "out", metadata={})
