"""Side branches of a saved model: they compute what training saw, and generate."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from torch import Tensor

from tasks.models.saved.branches import attach_branches, detach_branches, save_branches
from tasks.pruning.ast.method import AdaptiveSparseTrainer
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import PruneResult
from tasks.pruning.core.targets import SemiStructured

METHOD = AdaptiveSparseTrainer(
    steps=3, batch=2, learning_rate=5e-3, mask_interval=2, slorb=True, slorb_group=8
)


def retrained(architecture: str) -> tuple[Decoder, PruneResult]:
    decoder = tiny.decoder(architecture)
    result = METHOD.retrain(decoder, SemiStructured(2, 4), tiny.tokens(4, 24), seed=0)
    decoder.model.load_state_dict(result.weights, strict=False)
    return decoder, result


def logits_of(decoder: Decoder) -> Tensor:
    with torch.no_grad():
        return decoder.model(input_ids=tiny.tokens(2)).logits


@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
def test_with_branches_the_model_is_the_one_that_was_trained(
    architecture: str, tmp_path: Path
) -> None:
    decoder, result = retrained(architecture)
    plain = logits_of(decoder)
    save_branches(tmp_path, result.branches)
    assert attach_branches(decoder.model, tmp_path) == len(decoder.layers())
    with_branches = logits_of(decoder)
    assert not torch.allclose(plain, with_branches, atol=1e-3)
    detach_branches(decoder.model)
    assert torch.equal(logits_of(decoder), plain)

    folded = dict(result.weights)
    for name, layer in decoder.layers().items():
        branch = result.branches[f"{name}.slorb_s"] @ result.branches[f"{name}.slorb_x"]
        folded[f"{name}.weight"] = layer.as_stored(layer.weight_OI + branch)
    decoder.model.load_state_dict(folded, strict=False)
    torch.testing.assert_close(logits_of(decoder), with_branches, rtol=1e-4, atol=1e-5)


def test_generation_uses_them_and_the_state_dict_leaves_them_out(tmp_path: Path) -> None:
    decoder, result = retrained("llama")
    names = decoder.model.state_dict().keys()
    save_branches(tmp_path, result.branches)
    attach_branches(decoder.model, tmp_path)
    attach_branches(decoder.model, tmp_path)  # twice is once
    assert decoder.model.state_dict().keys() == names
    model = decoder.model
    ids = tiny.tokens(1, 5)
    generated = model.generate(  # type: ignore[operator]
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False,
        pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    for length in range(5, generated.shape[1]):
        with torch.no_grad():
            best = model(input_ids=generated[:, :length]).logits[0, -1].argmax()
        assert int(best) == int(generated[0, length])


def test_a_folder_without_branches_attaches_none(tmp_path: Path) -> None:
    assert attach_branches(tiny.llama(), tmp_path) == 0


def test_a_branch_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    _, result = retrained("llama")
    first = "model.layers.0.mlp.up_proj"
    for wrong, message in (
        ({f"{first}.slorb_x": torch.ones(4, 32)}, "lacks a half"),
        ({f"{first}.slorb_x": torch.ones(4, 16), f"{first}.slorb_s": torch.ones(64, 4)}, "not fit"),
        ({"nowhere.slorb_x": torch.ones(4, 32), "nowhere.slorb_s": torch.ones(64, 4)}, "no layer"),
    ):
        save_branches(tmp_path, wrong)
        with pytest.raises(ValueError, match=message):
            attach_branches(tiny.llama(), tmp_path)
    assert result.branches
