"""A cell's ensemble, which tells how sure its answers are.

``calibration``: the same pruning on other parts of the calibration text. ``masks``: draws from the
distribution that the cell's method has learned, with nothing learned again. Each member is made in
memory beside the dense model, and goes when it is measured: it is no step of the sweep.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from configs.corpora import Calibration
from tasks.compression.checkpoint import DISTRIBUTION, PRUNED, Recipe, prune
from tasks.data.texts import Texts, Windows
from tasks.measures.base import Ensemble, Member, Members
from tasks.models.architecture.decoder import describe
from tasks.models.resident import PRUNED as PRUNED_MODEL
from tasks.models.resident import dense_model
from tasks.models.saved.compact import compact_
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import PruneResult, SampledMethod
from tasks.pruning.core.sparsity import layer_sparsity, sparsity
from tasks.pruning.core.structure import masked_weights
from tasks.pruning.core.targets import Fraction
from tasks.store.steps import Work

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_DRAWN = 1
"""Raise it when other masks are drawn."""
Weights = MutableMapping[str, Tensor]


@dataclass(frozen=True)
class EnsembleOf:
    """What a recipe's members are made of."""

    recipe: Recipe
    texts: Texts
    calibration: Calibration

    def __call__(self, asked: Ensemble) -> Members:
        """The members of a source, or why there are none."""
        if asked.source == "masks":
            return self._drawn(asked.members)
        return self._calibrated(asked.members, asked.windows)

    def _calibrated(self, count: int, windows: int) -> Members:
        """On disjoint parts of the calibration text, which follow each other from its start
        however the sweep's own windows are drawn."""
        recipe = self.recipe
        if not recipe.method.uses_calibration:
            return f"{recipe.method.name} looks at no calibration text, so it has no members"

        def member(place: int) -> Member:
            label = f"{recipe.label} member {place}"
            mine = replace(recipe, calibration=self._part(place, windows), label=label)
            checkpoint = mine.steps()[0]
            return Member(
                inputs={"version": checkpoint.version, **checkpoint.inputs},
                needs=checkpoint.needs,
                model=lambda work: _made(work, mine, _pruned(mine)),
            )

        return tuple(member(place) for place in range(count))

    def _part(self, place: int, windows: int) -> Windows:
        length = self.calibration.sequence_length
        return self.texts.windows(
            field="calibration",
            name=f"calibration of member {place}",
            corpus=self.calibration.corpus,
            role="calibration",
            length=length,
            count=windows,
            skip=place * windows * length,
            asked_by="evaluation.uncertainty.subset",
        )

    def _drawn(self, count: int) -> Members:
        recipe = self.recipe
        if not isinstance(recipe.method, SampledMethod):
            name = recipe.method.name
            return f"{name} keeps no probabilities that masks could be drawn from"
        if recipe.method.compensates:
            return "compensation: least_squares fits weights to one mask, and draws have others"
        needs = {"model": recipe.model, PRUNED: recipe.steps()[1]}

        def member(place: int) -> Member:
            return Member(
                inputs={"version": _DRAWN, "draw": place, "seed": recipe.seed},
                needs=needs,
                model=lambda work: _made(work, recipe, _drawn(recipe, place)),
            )

        return tuple(member(place) for place in range(count))


Change = Callable[[Work, Decoder, Weights], PruneResult]
"""(the step's work, the dense model, what takes weights) → what is done to the model."""


def _pruned(recipe: Recipe) -> Change:
    def change(work: Work, decoder: Decoder, into: Weights) -> PruneResult:
        return prune(work, recipe, decoder, into).result

    return change


def _drawn(recipe: Recipe, place: int) -> Change:
    def change(work: Work, decoder: Decoder, into: Weights) -> PruneResult:
        assert isinstance(recipe.method, SampledMethod) and isinstance(recipe.target, Fraction)
        learned = load_file(work.need(PRUNED).path / DISTRIBUTION)
        generator = torch.Generator().manual_seed(_seed(recipe.seed, place))
        kept = recipe.method.sample(learned, recipe.target, generator)
        into.update(masked_weights(decoder, kept))
        return PruneResult(weights=into, figures={}, kept=kept)

    return change


def _seed(seed: int, place: int) -> int:
    """Another stream for every member of every cell; seed + place would give two cells the same."""
    return int.from_bytes(hashlib.sha256(f"{seed} {place}".encode()).digest()[:7])


@contextmanager
def _made(work: Work, recipe: Recipe, change: Change) -> Iterator[tuple[PreTrainedModel, float]]:
    """A changed copy of the dense model, and its sparsity; what it is made from stays as it is.

    It computes what a checkpoint that is written and loaded again would: weights are kept in the
    model's own dtype, and what was removed is not computed.
    """
    context = work.context
    context.loaded.release(PRUNED_MODEL)
    dense = dense_model(context, work.need("model").path, recipe.dtype)
    decoder = describe(dense, recipe.exclude)
    model = copy.deepcopy(dense)
    weights = _Written(model)
    with torch.no_grad():
        result = change(work, decoder, weights)
    # No method that trains weights has members: it looks at no calibration text.
    assert result.weights is weights and not result.branches
    zeros = sparsity(decoder, layer_sparsity(decoder, weights))
    if result.kept is not None:
        compact_(model, result.kept)
    yield model, zeros


class _Written(MutableMapping[str, Tensor]):
    """A model's weights, of which those that were set can be read."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._state = model.state_dict()
        self._set: dict[str, None] = {}

    def __setitem__(self, name: str, weight: Tensor) -> None:
        held = self._state[name]
        if held.shape != weight.shape:
            raise ValueError(f"{name} is {tuple(held.shape)}, its new value {tuple(weight.shape)}")
        held.copy_(weight)
        self._set[name] = None

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._set:
            raise KeyError(name)
        return self._state[name]

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"{name} is written already")

    def __iter__(self) -> Iterator[str]:
        return iter(self._set)

    def __len__(self) -> int:
        return len(self._set)
