"""Per-layer reconstruction error against its formula in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tasks.measures.reconstruction.layer_errors import CheckpointWeights, reconstruction_errors
from tasks.pruning.core.blocks import Decoder


def halved(decoder: Decoder) -> dict[str, Tensor]:
    """Every layer's weight, stored its own way, with a random half of zeros."""
    generator = torch.Generator().manual_seed(3)
    return {
        f"{name}.weight": layer.stored * (torch.rand(layer.stored.shape, generator=generator) > 0.5)
        for name, layer in decoder.layers().items()
    }


def by_formula(decoder: Decoder, pruned: dict[str, Tensor], windows: Tensor) -> dict[str, float]:
    """One window at a time, everything kept, float64."""
    seen: dict[str, list[Tensor]] = {name: [] for name in decoder.layers()}
    handles = [
        layer.module.register_forward_pre_hook(
            lambda _, args, name=name: seen[name].append(args[0].reshape(-1, args[0].shape[-1]))
        )
        for name, layer in decoder.layers().items()
    ]
    with torch.no_grad():
        for window in windows:
            decoder.model(input_ids=window[None])
    for handle in handles:
        handle.remove()
    errors = {}
    for name, layer in decoder.layers().items():
        inputs = torch.cat(seen[name]).double()
        dense = layer.stored.double()
        lost = dense - pruned[f"{name}.weight"].double()
        dense, lost = (part if layer.transposed else part.T for part in (dense, lost))
        errors[name] = float((inputs @ lost).norm() / (inputs @ dense).norm())
    return errors


def hooks(model: nn.Module) -> int:
    return sum(
        len(module._forward_pre_hooks) + len(module._forward_hooks) for module in model.modules()
    )


@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_equals_the_formula(architecture: str, batch_size: int) -> None:
    decoder, windows = tiny.decoder(architecture), tiny.tokens(3, 16)
    pruned = halved(decoder)
    before = {name: value.clone() for name, value in decoder.model.state_dict().items()}
    seen: list[tuple[int, int]] = []
    errors = reconstruction_errors(
        decoder.model, decoder, pruned, windows, batch_size=batch_size,
        progress=lambda done, of: seen.append((done, of)),
    )  # fmt: skip
    expected = by_formula(decoder, pruned, windows)
    assert list(errors) == list(decoder.layers())
    assert errors == pytest.approx(expected, rel=1e-5)
    assert all(0.05 < error < 1.5 for error in errors.values())
    assert hooks(decoder.model) == 0
    assert seen[-1] == (len(decoder.blocks), len(decoder.blocks))
    after = decoder.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_unpruned_is_zero_and_nothing_left_is_one(architecture: str) -> None:
    decoder, windows = tiny.decoder(architecture), tiny.tokens(2, 16)
    weights = {f"{name}.weight": layer.stored for name, layer in decoder.layers().items()}
    unpruned = reconstruction_errors(decoder.model, decoder, weights, windows)
    assert set(unpruned.values()) == {0.0}
    zeros = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    assert set(reconstruction_errors(decoder.model, decoder, zeros, windows).values()) == {1.0}


def test_the_dense_models_inputs_count() -> None:
    """A damaged first block leaves the second's error as it was; unnamed layers are left out."""
    decoder, windows = tiny.decoder("llama"), tiny.tokens(2, 16)
    pruned = halved(decoder)
    last = {name: weight for name, weight in pruned.items() if name.startswith("model.layers.2.")}
    both = reconstruction_errors(decoder.model, decoder, pruned, windows)
    alone = reconstruction_errors(decoder.model, decoder, last, windows)
    assert alone == {name: both[name] for name in alone}
    assert len(alone) == 7


def test_branches_are_part_of_a_weight() -> None:
    """A branch that gives back all that was pruned leaves no error."""
    decoder, windows = tiny.decoder("gpt2"), tiny.tokens(2, 16)
    pruned = halved(decoder)
    name = next(iter(decoder.layers()))
    lost_OI = (decoder.layers()[name].stored - pruned[f"{name}.weight"]).T
    branch = {f"{name}.slorb_x": torch.eye(lost_OI.shape[1]), f"{name}.slorb_s": lost_OI}
    errors = reconstruction_errors(decoder.model, decoder, pruned | branch, windows)
    assert errors[name] < 1e-6
    assert min(error for other, error in errors.items() if other != name) > 0.05


def test_a_checkpoint_is_read_lazily(tmp_path: Path) -> None:
    decoder, windows = tiny.decoder("llama"), tiny.tokens(2, 16)
    pruned = halved(decoder)
    names = list(pruned)
    for part, chosen in enumerate((names[:5], names[5:])):
        tensors = {name: pruned[name].contiguous() for name in chosen}
        save_file(tensors, tmp_path / f"model-{part}.safetensors")
    weights = CheckpointWeights(tmp_path)
    assert set(weights) == set(pruned) and len(weights) == len(pruned)
    found = reconstruction_errors(decoder.model, decoder, weights, windows)
    assert found == reconstruction_errors(decoder.model, decoder, pruned, windows)
    with pytest.raises(ValueError, match=r"no \*\.safetensors"):
        CheckpointWeights(tmp_path / "none")


def test_wrong_input_is_named() -> None:
    decoder, windows = tiny.decoder("llama"), tiny.tokens(2, 16)
    name = next(iter(decoder.layers()))
    with pytest.raises(ValueError, match=r"no layer below model\.layers"):
        reconstruction_errors(decoder.model, decoder, {"lm_head.weight": windows}, windows)
    with pytest.raises(ValueError, match=rf"{name}.*\(1, 2\).*\(32, 32\)"):
        wrong = {f"{name}.weight": torch.zeros(1, 2)}
        reconstruction_errors(decoder.model, decoder, wrong, windows)
    with pytest.raises(ValueError, match="no token"):
        reconstruction_errors(decoder.model, decoder, halved(decoder), windows[:0])
    with pytest.raises(ValueError, match="another model"):
        reconstruction_errors(tiny.llama(), decoder, halved(decoder), windows)
    broken = {f"{name}.weight": torch.full((32, 32), torch.nan)}
    with pytest.raises(FloatingPointError, match=name):
        reconstruction_errors(decoder.model, decoder, broken, windows)
    assert hooks(decoder.model) == 0
