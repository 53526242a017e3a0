"""AST from a one-shot method's weights, on tiny models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from support.contract import sketch_of
from torch import Tensor

from tasks.models.architecture.head import split_head
from tasks.pruning.ast import start
from tasks.pruning.ast.method import AdaptiveSparseTrainer
from tasks.pruning.ast.student import Student
from tasks.pruning.core import driver
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.retraining import LocalEngine, Snapshot
from tasks.pruning.core.targets import SemiStructured

HALF = SemiStructured(2, 4)
STARTS: tuple[Any, ...] = ("sketched_obs", "full_obs")
STILL = AdaptiveSparseTrainer(
    steps=2, batch=3, learning_rate=1e-12, weight_decay=0, mask_interval=1, momentum="corrected"
)
"""Changes nothing that float32 can hold."""


def expected(method: AdaptiveSparseTrainer, decoder: Decoder, windows: int) -> Mapping[str, Tensor]:
    """What the start's method makes of the dense model with the sweep's own code."""
    first = method.starts_from
    assert first is not None
    tokens = tiny.tokens(8, 24)[:windows]
    statistics = driver.collect_statistics(decoder, tokens, sketch=sketch_of(first))
    return driver.prune(first, decoder, HALF, tokens_NL=tokens, statistics=statistics).weights


@pytest.mark.parametrize("criterion", ["magnitude", "activation"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", STARTS)
@pytest.mark.parametrize("architecture", list(tiny.ARCHITECTURES))
def test_training_starts_from_the_methods_weights_and_masks(
    architecture: str,
    name: str,
    dtype: torch.dtype,
    criterion: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(start, "_TOKENS", 3 * 24)
    decoder = tiny.decoder(architecture)
    decoder.model.to(dtype)
    method = replace(STILL, start=name, criterion=criterion, mask="fixed")
    result = method.retrain(decoder, HALF, tiny.tokens(8, 24), seed=0, split=split_head)
    wanted, state = expected(method, decoder, windows=3), decoder.model.state_dict()
    masked = {f"{name}.weight" for name in decoder.layers()}
    assert wanted.keys() == masked
    for parameter, weight in result.weights.items():
        if parameter in masked:
            assert torch.equal(weight.ne(0), wanted[parameter].ne(0)), parameter
            assert not torch.equal(weight, state[parameter])
        torch.testing.assert_close(weight, wanted.get(parameter, state[parameter]))
    assert result.figures["start_tokens"] == 3 * 24
    assert result.figures["start_seconds"] > 0


@pytest.mark.parametrize("name", STARTS)
def test_pruned_weights_may_grow_again(name: str) -> None:
    decoder = tiny.decoder("llama")
    method = replace(STILL, start=name, steps=20, learning_rate=0.02)
    wanted = expected(method, decoder, windows=8)
    tokens = tiny.tokens(8, 24)
    free, fixed = (
        replace(method, mask=mask).retrain(decoder, HALF, tokens, seed=0, split=split_head)
        for mask in ("adaptive", "fixed")
    )
    changed = 0
    for parameter, weight in wanted.items():
        assert torch.equal(fixed.weights[parameter].ne(0), weight.ne(0))
        changed += int((free.weights[parameter].ne(0) ^ weight.ne(0)).sum())
    assert changed


def test_excluded_layers_start_dense_and_slorb_from_nothing() -> None:
    decoder = replace(tiny.decoder("llama"), exclude=("model.layers.0.mlp.*",))
    method = replace(STILL, start="full_obs", slorb=True, slorb_group=8)
    result = method.retrain(decoder, HALF, tiny.tokens(8, 24), seed=0, split=split_head)
    name = "model.layers.0.mlp.up_proj.weight"
    torch.testing.assert_close(result.weights[name], decoder.model.state_dict()[name])
    scales = [branch for key, branch in result.branches.items() if key.endswith("slorb_s")]
    # All that was pruned is zero, so nothing is left that a branch could stand in for.
    assert scales
    assert all(scale.abs().max() < 1e-9 for scale in scales)


def test_progress_tells_the_starts_passes_and_then_the_steps() -> None:
    decoder = tiny.decoder("llama")
    blocks, layers = len(decoder.blocks), len(decoder.layers())
    for name, passes in (("sketched_obs", [blocks, layers]), ("full_obs", [blocks])):
        told: list[tuple[int, int]] = []
        replace(STILL, start=name).retrain(
            decoder,
            HALF,
            tiny.tokens(8, 24),
            seed=0,
            progress=lambda *step, told=told: told.append(step),
        )
        assert told == [(step, of) for of in (*passes, 2) for step in range(1, of + 1)]


class Second(LocalEngine):
    """The second of two processes, the first of which has sevens."""

    rank, processes = 1, 2

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            tensor.add_(7)


def test_every_process_starts_from_the_first_ones_weights() -> None:
    decoder = tiny.decoder("llama")
    method = replace(STILL, start="full_obs").starts_from
    assert method is not None
    student = Student(decoder, HALF, torch.device("cpu"), weight_decay=0, slorb_group=None)
    tokens = tiny.tokens(8, 24)
    start.begin_(student, method, decoder, tokens, Second(decoder.model), None)
    for name in student.layers:
        assert student.variables[f"{name}.weight"].value.eq(7).all()


class StoppedError(Exception):
    pass


class Keeping(LocalEngine):
    """Holds the snapshot of one step and goes on from it."""

    kept: Snapshot | None = None

    def restore(self) -> Snapshot | None:
        return self.kept

    def snapshot(self, step: int, take: Callable[[], Snapshot]) -> None:
        if step == 3 and self.kept is None:
            found = take()
            tensors = {name: tensor.clone() for name, tensor in found.tensors.items()}
            self.kept = Snapshot(tensors, json.loads(json.dumps(found.facts)))
            raise StoppedError


@pytest.mark.parametrize("slorb", [False, True])
def test_a_run_that_goes_on_does_not_start_again(slorb: bool) -> None:
    decoder = tiny.decoder("llama")
    method = replace(STILL, start="full_obs", steps=6, learning_rate=0.02, slorb=slorb)
    calm = method.retrain(decoder, HALF, tiny.tokens(8, 24), seed=0, split=split_head)
    engine = Keeping(decoder.model)
    with pytest.raises(StoppedError):
        method.retrain(decoder, HALF, tiny.tokens(8, 24), seed=0, engine=engine, split=split_head)
    told: list[tuple[int, int]] = []
    resumed = method.retrain(
        decoder,
        HALF,
        tiny.tokens(8, 24),
        seed=0,
        engine=engine,
        split=split_head,
        progress=lambda *step: told.append(step),
    )
    assert told == [(4, 6), (5, 6), (6, 6)]
    assert resumed.figures["start_seconds"] > 0
    assert calm.weights.keys() == resumed.weights.keys()
    assert all(torch.equal(weight, resumed.weights[n]) for n, weight in calm.weights.items())


def test_tables_say_so() -> None:
    assert "start full_obs" in replace(STILL, start="full_obs").departs
    assert STILL.starts_from is None
