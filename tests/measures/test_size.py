"""What a model weighs is a property of its checkpoint, however it is loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from structured import model_of, parameters_without, random_kept

from tasks.measures.base import Subject
from tasks.measures.size import Size, zeros_of
from tasks.models.architecture.decoder import describe
from tasks.models.saved.kept import kept_to_json
from tasks.models.saved.save import save_checkpoint
from tasks.models.sources.random_model import tokenizer
from tasks.pruning.core.sparsity import layer_sparsity, sparsity
from tasks.pruning.core.structure import masked_weights
from tasks.store.context import Context
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Store

MAPS = ["none", "auto"]


def sizes(folder: Path, model: Any, kept: Any, device_map: str, limit: str) -> list[Any]:
    """The artifacts of a dense model, and of the same with some heads and channels removed."""

    def dense(work: Work) -> Facts:
        model.save_pretrained(work.out)
        tokenizer().save_pretrained(work.out)
        return {}

    def cut(work: Work) -> Facts:
        save_checkpoint(
            model,
            work.need("model").path,
            dict(masked_weights(describe(model), kept)),
            work.out,
            dtype=torch.float32,
            metadata={"kept": kept_to_json(kept)},
        )
        return {}

    weights = Step(name="model", inputs={}, produce=dense)
    pruned = Step(name="checkpoint", inputs={}, needs={"model": weights}, produce=cut)
    memory = {"cpu": limit} if device_map == "auto" else {}
    common: dict[str, Any] = {
        "dtype": "float32",
        "evaluation": SimpleNamespace(device_map=device_map, max_memory=memory),
        "resolved": {},
        "windows": None,
    }
    whole = Subject(label="dense", weights=weights, dense=None, **common)
    subjects = [whole, Subject(label="cut", weights=pruned, dense=whole, **common)]
    context = Context(Store(folder))
    return [context.make(Size().steps(subject)["size"]) for subject in subjects]


@pytest.mark.parametrize("device_map", MAPS)
@pytest.mark.parametrize("kind", ["tied", "qwen2", "opt"])
def test_removed_heads_and_channels_do_not_weigh(
    tmp_path: Path, kind: str, device_map: str
) -> None:
    model = model_of(kind)
    kept = random_kept(model, seed=4)
    dense, cut = sizes(tmp_path, model, kept, device_map, "60KB")
    left = parameters_without(model, kept)
    assert dense.facts["parameters"] == model.num_parameters() > left
    assert cut.facts["parameters"] == left
    held = cut.facts["nonzero_parameters"]
    assert 0.99 * left < held <= left, "this model has few zeros of its own"
    assert Size().columns({"size": cut})["bytes_on_disk"] == 4 * left


@pytest.mark.parametrize("device_map", MAPS)
def test_a_dense_model_s_own_zeros_are_counted(tmp_path: Path, device_map: str) -> None:
    model = model_of("tied")
    layers = list(describe(model).layers().values())
    for layer in layers[::2]:
        layer.stored[:3] = 0
    dense, cut = sizes(tmp_path, model, random_kept(model, 4), device_map, "60KB")
    decoder = describe(model)
    expected = sparsity(decoder, layer_sparsity(decoder, {}))
    assert 0 < expected < 1
    assert zeros_of({"size": dense}) == pytest.approx(expected, rel=1e-12)
    assert zeros_of({"size": cut}) is None, "its pruning counted them"
    assert zeros_of({}) is None
