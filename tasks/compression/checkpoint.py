"""The steps of one cell's pruning or retraining: a checkpoint, and its facts, which outlive it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from configs.corpora import Training
from tasks.compression.coresets import ChosenWindows
from tasks.compression.statistics import VERSION as STATISTICS_VERSION
from tasks.compression.statistics import load_statistics, statistics_step
from tasks.data.texts import Windows, load_counted, load_tokens
from tasks.models.architecture.decoder import describe
from tasks.models.examine import unread_tensors
from tasks.models.files import share
from tasks.models.load import best_device
from tasks.models.next_tokens import mean_loss
from tasks.models.resident import dense_model
from tasks.models.saved.branches import save_branches
from tasks.models.saved.kept import kept_to_json
from tasks.models.saved.save import save_checkpoint
from tasks.models.saved.spill import SpilledWeights
from tasks.pruning.core import compensation, driver
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import LayerMethod, Method, PruneResult, StructuredMethod
from tasks.pruning.core.retraining import RetrainingMethod
from tasks.pruning.core.sparsity import layer_sparsity, sparsity
from tasks.pruning.core.targets import Target
from tasks.runtime.memory import measured
from tasks.store.code import code_input
from tasks.store.needs import training_folder
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact
from tasks.training.launcher import MOST_MEMORY

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CHECKPOINT, PRUNED = "checkpoint", "pruned"
LAYOUT = 2
"""Raise it when what every checkpoint's folder holds changes, whatever the method."""
_SPILL = "pruned-weights"
"""While a checkpoint is made: pruned weights on disk, so that memory holds the model once."""
_HISTORY = "history.json"
"""Figures of learning, step by step."""
DISTRIBUTION = "distribution.safetensors"
"""What a method that learns a distribution over choices draws others from."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is done to one model.

    Attributes:
        calibration, training: None where no method of the sweep looks at them.
        training_options: how methods that train weights do it. The number of processes changes
            the result by the order of sums alone, and is recorded with it.
        exclude: patterns of layers that stay as they are, sorted.
        label: the cell in words, such as ``smollm2-135m wanda 0.5``.
    """

    model: Step
    method: Method
    target: Target
    seed: int
    dtype: str
    calibration: Windows | ChosenWindows | None
    training: Windows | ChosenWindows | None
    training_options: Training
    exclude: tuple[str, ...]
    label: str

    @property
    def processes(self) -> int:
        """How many train; 1 for methods that do not."""
        if not isinstance(self.method, RetrainingMethod):
            return 1
        return self.training_options.processes or max(1, torch.cuda.device_count())

    @property
    def statistics_windows(self) -> int | None:
        """How many calibration windows statistics are of; None where the method takes none."""
        method, calibration = self.method, self.calibration
        if not (isinstance(method, LayerMethod) and method.uses_statistics):
            return None
        assert calibration is not None
        assert calibration.count is not None
        return method.calibration_windows(calibration.count, calibration.length)

    def needs(self) -> dict[str, Step]:
        """What the method looks at: the one place that asks."""
        needs = {"model": self.model}
        method, calibration, count = self.method, self.calibration, self.statistics_windows
        if isinstance(method, LayerMethod) and count is not None:
            assert calibration is not None
            tokens = calibration.limited(count).step
            needs["statistics"] = statistics_step(
                self.model, tokens, count, self.dtype, method.sketch
            )
        elif method.uses_calibration:
            assert calibration is not None
            needs["calibration"] = calibration.step
        if method.uses_training:
            assert self.training is not None
            needs["training"] = self.training.step
        return needs

    def _uses(self) -> dict[str, Any]:
        """Code that the method uses and that changes on its own, with its options."""
        method = self.method
        if isinstance(method, StructuredMethod) and method.compensates:
            return {"compensation_version": compensation.VERSION}
        if not isinstance(method, RetrainingMethod) or not (start := method.starts_from):
            return {}
        known = {"method": start.name, "version": start.version, **asdict(start)}
        if isinstance(start, LayerMethod) and start.uses_statistics:
            known["statistics_version"] = STATISTICS_VERSION
        return {"start": {**known, **code_input(type(start))}}

    def steps(self) -> tuple[Step, Step]:
        """The checkpoint, and its facts alone."""
        checkpoint = Step(
            name=CHECKPOINT,
            version=self.method.version,
            inputs={
                "layout": LAYOUT,
                "method": self.method.name,
                "options": asdict(self.method),
                "target": str(self.target),
                "seed": self.seed if self.method.uses_seed else None,
                "dtype": self.dtype,
                # Sweeps that exclude nothing have no such input.
                **({"exclude": list(self.exclude)} if self.exclude else {}),
                **self._uses(),
                **code_input(type(self.method)),
            },
            needs=self.needs(),
            produce=lambda work: _prune(work, self),
            label="retrain" if self.method.learns == "weights" else "prune",
            group=self.label,
        )
        facts = Step(
            name=PRUNED,
            inputs={},
            needs={CHECKPOINT: checkpoint},
            produce=_facts_alone,
            label="facts of pruning",
            group=self.label,
        )
        return checkpoint, facts


def history_of(pruned: Artifact | None) -> list[dict[str, float]]:
    """Figures of a cell's learning, step by step; empty for methods that do not learn."""
    path = pruned.path / _HISTORY if pruned else None
    return json.loads(path.read_text()) if path and path.is_file() else []


def _facts_alone(work: Work) -> Facts:
    checkpoint = work.need(CHECKPOINT)
    for name in (_HISTORY, DISTRIBUTION):
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, work.out / name)
    # Only now: until the checkpoint has its name, a kill must not cost the training.
    store = work.context.store
    shutil.rmtree(training_folder(store.root, work.step.needs[CHECKPOINT]), ignore_errors=True)
    return checkpoint.facts


@dataclass(frozen=True)
class Pruned:
    """What a method made of a model, how long it took, and how much memory."""

    result: PruneResult
    seconds: float
    peak_bytes: int


def prune(
    work: Work, recipe: Recipe, decoder: Decoder, into: MutableMapping[str, torch.Tensor]
) -> Pruned:
    """Run the recipe's method on what the step needs.

    Args:
        work: of a step that needs all of ``recipe.needs()``.
        into: takes the weights, of methods that train none.
    """
    needs = work.step.needs
    statistics = load_statistics(work.need("statistics")) if "statistics" in needs else None
    tokens, training = (
        load_tokens(work.need(role)) if role in needs else None
        for role in ("calibration", "training")
    )
    counted = load_counted(work.need("training")) if training is not None else None
    prefix = len(work.need("training").facts["prefix"]) if training is not None else 0
    learns = training is not None and not decoder.encoder
    loss = mean_loss(decoder.model) if learns else None  # type: ignore[arg-type]
    with measured(best_device().type) as peak:
        start = time.perf_counter()
        if isinstance(recipe.method, RetrainingMethod):
            assert training is not None
            result = _retrain(work, recipe, recipe.method, decoder, training, counted)
        else:
            result = driver.prune(
                recipe.method,
                decoder,
                recipe.target,
                seed=recipe.seed,
                tokens_NL=tokens,
                statistics=statistics,
                training_NL=training,
                counted_NL=counted,
                prefix=prefix,
                loss=loss,
                device=best_device(),
                progress=work.progress,
                into=into,
            )
        seconds = time.perf_counter() - start
    return Pruned(result, seconds, peak.bytes)


def _prune(work: Work, recipe: Recipe) -> Facts:
    source = work.need("model").path
    # Whoever learns passes through all of it, again and again.
    by_block = not recipe.method.uses_training
    dense = dense_model(work.context, source, recipe.dtype, by_block=by_block)
    decoder = describe(dense, recipe.exclude)
    pruned = prune(work, recipe, decoder, SpilledWeights(work.out / _SPILL))
    result = pruned.result
    shared_seconds = (
        work.need("statistics").facts["seconds"] if "statistics" in work.step.needs else 0.0
    )
    by_layer = layer_sparsity(decoder, result.weights)
    _save(work, dense, source, result)
    sizes = {name: layer.stored.numel() for name, layer in decoder.layers().items()}
    excluded = [name for name in sizes if decoder.excludes(name)]
    return {
        **_costs(recipe, pruned, shared_seconds),
        "sparsity": sparsity(decoder, by_layer),
        "layer_sparsity": by_layer,
        "counted_weights": sum(sizes.values()),
        "exempt_weights": decoder.exempt(),
        "excluded_layers": len(excluded),
        "excluded_weights": sum(sizes[name] for name in excluded),
        "branch_weights": sum(branch.numel() for branch in result.branches.values()),
        "from_main_memory": dense.device.type != best_device().type,
    }


def _costs(recipe: Recipe, pruned: Pruned, shared_seconds: float) -> dict[str, Any]:
    """Time, memory and tokens; what else the method told stands under ``figures``."""
    figures = dict(pruned.result.figures)
    # A training that went on from a checkpoint has cost what it took before as well.
    before = figures.get("training_seconds", 0.0) + figures.get("start_seconds", 0.0)
    seconds = max(pruned.seconds, before)
    calibration = figures.pop("calibration_seconds", 0.0)
    learns = recipe.method.learns
    return {
        "prune_seconds": seconds - calibration,
        "calibration_seconds": shared_seconds + calibration,
        "learned": "" if learns == "nothing" else learns,
        "training_tokens": round(figures.pop("training_tokens", 0)),
        "training_seconds": figures.pop("training_seconds", 0.0),
        "training_processes": recipe.processes,
        # Of the process that took most: this one, or one that it started.
        "peak_memory_bytes": max(pruned.peak_bytes, round(figures.get(MOST_MEMORY, 0))),
        "figures": figures,
    }


def _retrain(
    work: Work,
    recipe: Recipe,
    method: RetrainingMethod,
    decoder: Decoder,
    training_NL: torch.Tensor,
    counted_NL: torch.Tensor | None,
) -> PruneResult:
    from tasks.training.run import retrain

    decoder.require_exclusion()
    return retrain(
        decoder.model,  # type: ignore[arg-type]
        decoder,
        method,
        recipe.target,
        training_NL,
        counted_NL=counted_NL,
        seed=recipe.seed,
        processes=recipe.processes,
        scratch=training_folder(work.context.store.root, work.step),
        checkpoint_seconds=recipe.training_options.checkpoint_seconds,
        progress=work.progress,
    )


def _save(work: Work, dense: PreTrainedModel, source: Path, result: PruneResult) -> None:
    step, out = work.step, work.out
    metadata: dict[str, Any] = {"fingerprint": step.fingerprint, "inputs": dict(step.inputs)}
    if result.kept is not None:
        metadata["kept"] = kept_to_json(result.kept)
    save_checkpoint(
        dense,
        source,
        result.weights,
        out,
        dtype=dense.dtype,
        metadata=metadata,
        unread=unread_tensors(source, work.context.trust),
    )
    if result.branches:
        save_branches(out, result.branches)
    if result.history:
        history = json.dumps([dict(entry) for entry in result.history])
        (out / _HISTORY).write_text(history)
    if result.distribution:
        save_file(dict(result.distribution), out / DISTRIBUTION)
        share(out / DISTRIBUTION)
    shutil.rmtree(out / _SPILL, ignore_errors=True)
