"""The steps of a coreset: gradients of a pool of windows, and the windows chosen by them.

``gradients`` looks at the model, and serves every budget and method; ``select`` chooses, and its
artifact is read like that of the windows that it takes the place of.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from configs.corpora import Coreset
from tasks.compression.mapped import mapped
from tasks.data.corpora import ResolvedCorpus
from tasks.data.texts import Windows, load_counted, load_places, load_tokens, save_tokens
from tasks.models.architecture.decoder import describe
from tasks.models.architecture.head import input_device
from tasks.models.next_tokens import halves_of, token_losses
from tasks.models.resident import dense_model
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.sequences import predicted, predicting
from tasks.selection.coreset.gradients import Warmup, features
from tasks.selection.coreset.lora import Branches, Place
from tasks.selection.coreset.norms import column_squares
from tasks.selection.coreset.quality import column_norm_error, mean_error, random_error
from tasks.selection.coreset.select import Choice, Selection, select
from tasks.selection.positions import evenly
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GRADIENTS, SELECT = "gradients", "select"
VERSION = 1
"""Of both steps: raise it when features or selections change."""
_FEATURES, _SELECTION = "features.safetensors", "selection.json"
_TOKENS_AT_ONCE = 2048
"""Tokens of one backward pass."""


@dataclass(frozen=True, kw_only=True)
class ChosenWindows:
    """Windows that are chosen from a pool by their gradients.

    Attributes:
        count: how many are chosen.
        seed: of the warm-up, the projection and the clusters.
        dtype: that the model computes in.
    """

    pool: Windows
    options: Coreset
    count: int
    seed: int
    dtype: str

    @property
    def length(self) -> int:
        """Tokens of a window."""
        return self.pool.length

    @property
    def facts(self) -> ResolvedCorpus:
        """The text that the pool is cut from."""
        return self.pool.facts

    @property
    def description(self) -> str:
        """The text in words."""
        return self.pool.description

    @property
    def skip(self) -> int:
        """Tokens of the text's start that are left to another use."""
        return self.pool.skip

    def limited(self, count: int) -> ChosenWindows:
        """The choice of ``count`` windows, from the same gradients."""
        return replace(self, count=count)

    @cached_property
    def gradients(self) -> Step:
        """Describes every window of the pool."""
        options, pool = self.options, self.pool
        return Step(
            name=GRADIENTS,
            version=VERSION,
            inputs={
                "dtype": self.dtype,
                "form": options.features,
                "rank": options.rank,
                "projection": options.projection,
                "warmup_steps": options.warmup_steps,
                "warmup_batch": options.warmup_batch,
                "checkpoints": options.checkpoints,
                "learning_rate": options.learning_rate,
                "seed": self.seed,
            },
            needs={"model": pool.model, "pool": pool.step},
            produce=lambda work: _describe(work, self),
            label=f"gradients of {pool.name}, seed {self.seed}",
            group=pool.model.group,
        )

    @cached_property
    def step(self) -> Step:
        """Chooses and stores the windows."""
        options, pool = self.options, self.pool
        tokens = pool.step
        return Step(
            name=SELECT,
            version=VERSION,
            inputs={
                **{
                    name: tokens.inputs[name]
                    for name in ("corpus", "boundaries", "length", "skip", "loss")
                    if name in tokens.inputs
                },
                "count": self.count,
                "seed": self.seed,
                "sampling": "coreset",
                "method": options.method,
                "clusters": self.choice.cluster_count(),
                "ridge": options.ridge,
                "repeats": options.repeats,
            },
            needs={"pool": tokens, GRADIENTS: self.gradients},
            produce=lambda work: _select(work, self),
            label=f"select {self.count} of {pool.name}, seed {self.seed}",
            group=pool.model.group,
            words={name: tokens.words[name] for name in ("corpus", "split", "format", "loss")},
            about=self,
        )

    @property
    def choice(self) -> Choice:
        """What is asked of the selection."""
        options = self.options
        return Choice(
            count=self.count,
            method=options.method,
            clusters=options.clusters,
            ridge=options.ridge,
            repeats=options.repeats,
        )


def window_losses(
    model: PreTrainedModel, windows_NL: Tensor, counted_NL: Tensor | None = None
) -> Callable[[Tensor], Tensor]:
    """A function of numbers of windows: the mean loss of each one's predicted tokens, ``N``.

    Args:
        counted_NL: which tokens count; None: all. In every window one that is predicted does.
    """
    halves, device = halves_of(model), input_device(model)

    def losses(index_N: Tensor) -> Tensor:
        ids_NL = windows_NL[index_N].long().to(device)
        counts_NL = None if counted_NL is None else counted_NL[index_N].to(device)
        states_TX = predicting(halves.states(ids_NL), counts_NL)
        each_T = token_losses(halves, states_TX, predicted(ids_NL, counts_NL))
        if counts_NL is None:
            return each_T.view(len(ids_NL), -1).mean(dim=1)
        of_T = counts_NL[:, 1:].nonzero()[:, 0]
        sums_N = each_T.new_zeros(len(ids_NL)).index_add(0, of_T, each_T)
        return sums_N / counts_NL[:, 1:].sum(dim=1)

    return losses


def branch_places(decoder: Decoder) -> dict[str, Place]:
    """Where branches stand: the attention's linear layers, or all where none is called so."""
    layers = {name: layer for name, layer in decoder.layers().items() if layer.expert is None}
    named = {name: layer for name, layer in layers.items() if "att" in layer.name}
    return {
        name: Place(layer.module, layer.in_features, layer.weight_OI.shape[0])
        for name, layer in (named or layers).items()
    }


def _describe(work: Work, chosen: ChosenWindows) -> Facts:
    options = chosen.options
    model = dense_model(work.context, work.need("model").path, chosen.dtype)
    decoder = describe(model)
    windows_NL = load_tokens(work.need("pool"))
    numbers_N = torch.arange(len(windows_NL))
    batch = max(1, _TOKENS_AT_ONCE // chosen.length)
    losses = window_losses(model, windows_NL, load_counted(work.need("pool")))
    generator = torch.Generator().manual_seed(chosen.seed)
    branches = Branches(branch_places(decoder), options.rank, generator, input_device(model))
    start = time.perf_counter()
    pool = len(windows_NL)
    squares_NC = column_squares(
        {name: layer.module for name, layer in decoder.layers().items() if layer.expert is None},
        losses,
        numbers_N,
        batch=batch,
        progress=lambda done, total: work.progress(done, (1 + options.checkpoints) * total),
    )
    shape = (pool, options.projection)
    shapes = {"x_ND": shape, "raw_ND": shape, "squares_NC": tuple(squares_NC.shape)}
    tensors = mapped(work.out / _FEATURES, shapes)
    tensors["squares_NC"].copy_(squares_NC)
    found = features(
        branches,
        losses,
        numbers_N,
        warmup=Warmup(
            steps=options.warmup_steps,
            checkpoints=options.checkpoints,
            batch=options.warmup_batch,
            learning_rate=options.learning_rate,
        ),
        dimensions=options.projection,
        form=options.features,
        generator=generator,
        seed=chosen.seed,
        batch=batch,
        into=(tensors["x_ND"], tensors["raw_ND"]),
        progress=lambda done, total: work.progress(pool + done, pool + total),
    )
    return {
        "seconds": time.perf_counter() - start,
        "windows": pool,
        "parameters": branches.size(),
        "learning_rates": found.rates,
    }


def _select(work: Work, chosen: ChosenWindows) -> Facts:
    pool, gradients = work.need("pool"), work.need(GRADIENTS)
    tensors = load_file(gradients.path / _FEATURES)
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(chosen.seed)
    found = select(tensors["x_ND"], chosen.choice, generator, work.progress)
    seconds = time.perf_counter() - start
    windows_NL, counted_NL = load_tokens(pool)[found.index], load_counted(pool)
    if counted_NL is not None:
        counted_NL = counted_NL[found.index]
    save_tokens(work.out, windows_NL, counted_NL)
    picks = _picks(found, pool)
    text = json.dumps({"picks": picks, "clusters": found.clusters}, indent=1, ensure_ascii=False)
    (work.out / _SELECTION).write_text(text, encoding="utf-8")
    sources = [str(pick["source"]) for pick in picks]
    return {
        "windows": len(windows_NL),
        "length": windows_NL.shape[1],
        **{name: pool.facts[name] for name in ("prefix", "vocabulary")},
        **({} if counted_NL is None else {"counted_tokens": int(counted_NL.sum())}),
        "sources": {name: sources.count(name) for name in pool.facts["sources"]},
        "pool_sources": pool.facts["sources"],
        "pool": pool.facts["windows"],
        "clusters": found.clusters,
        "seconds": gradients.facts["seconds"] + seconds,
        "quality": _quality(found, tensors),
    }


def _picks(found: Selection, pool: Artifact) -> list[dict[str, object]]:
    places = load_places(pool)
    chosen = zip(found.index, found.cluster, found.weight, strict=True)
    return [
        {
            "index": index,
            "cluster": cluster,
            "weight": weight,
            "source": places["source"][index],
            "offset": places["offset"][index],
        }
        for index, cluster, weight in chosen
    ]


def load_picks(artifact: Artifact) -> list[dict[str, Any]]:
    """``index``, ``cluster``, ``weight``, ``source`` and ``offset`` of each chosen window."""
    return json.loads((artifact.path / _SELECTION).read_text(encoding="utf-8"))["picks"]


def _quality(found: Selection, tensors: dict[str, Tensor]) -> dict[str, float]:
    """Errors of the selection, and of as many windows that are spread evenly over the pool."""
    x_ND, raw_ND, squares_NC = (tensors[name] for name in ("x_ND", "raw_ND", "squares_NC"))
    count = len(found.index)
    spread = evenly(len(x_ND), count).tolist()
    equal = [1.0] * count
    return {
        "gradient_error": mean_error(x_ND, found.index, found.weight),
        "gradient_error_random": random_error(x_ND, count),
        "gradient_error_spread": mean_error(x_ND, spread, equal),
        "raw_gradient_error": mean_error(raw_ND, found.index, found.weight),
        "raw_gradient_error_random": random_error(raw_ND, count),
        "raw_gradient_error_spread": mean_error(raw_ND, spread, equal),
        "column_norm_error": column_norm_error(squares_NC, found.index, found.weight),
        "column_norm_error_spread": column_norm_error(squares_NC, spread, equal),
    }
