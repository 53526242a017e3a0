"""One cell's pruning, or retraining: a checkpoint and its facts."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from prefect import task
from prefect.cache_policies import NO_CACHE
from torch import Tensor

from configs.trust import Trust
from tasks.measures.perplexity.perplexity import mean_loss
from tasks.models.architecture.decoder import describe
from tasks.models.load import best_device
from tasks.models.saved.branches import save_branches
from tasks.models.saved.kept import kept_to_json
from tasks.models.saved.save import save_checkpoint
from tasks.models.saved.spill import SpilledWeights
from tasks.plan.plan import Cell
from tasks.pruning.core import driver
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import Progress, PruneResult
from tasks.pruning.core.retraining import RetrainingMethod
from tasks.runtime.environment import environment
from tasks.runtime.memory import measured
from tasks.runtime.progress import work
from tasks.steps.prefect_progress import shown_in_prefect
from tasks.steps.prepare import (
    dense_model,
    load_statistics,
    load_tokens,
    model_folder,
    statistics_of,
    windows_of,
)
from tasks.steps.states import cached
from tasks.store.store import Artifact, Store
from tasks.training.launcher import MOST_MEMORY

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SPILL = "pruned-weights"
"""While a checkpoint is made: pruned weights on disk, so that memory holds the model once."""
HISTORY = "history.json"
"""Figures of learning, step by step, beside a cell's facts."""


def scratch_of(cell: Cell, store: Store) -> Path:
    """Where the cell's training keeps what it needs to go on after a kill."""
    return store.root / "training" / cell.checkpoint.fingerprint


def _compute(cell: Cell, store: Store, trust: Trust, folder: Path) -> Mapping[str, Any]:
    statistics, shared_seconds = None, 0.0
    if cell.statistics_windows:
        artifact = statistics_of(cell.model, cell.statistics_windows, store, trust)
        statistics, shared_seconds = load_statistics(artifact), artifact.facts["seconds"]
    tokens, training = _texts(cell, store, trust)
    dense = dense_model(cell.model, store, trust)
    decoder = describe(dense)
    begun = time.perf_counter()
    with (
        measured(best_device().type) as peak,
        work(_label(cell), cell.action) as piece,
        shown_in_prefect(_label(cell), piece, shown=cell.method.uses_training) as advance,
    ):
        start = time.perf_counter()
        if isinstance(cell.method, RetrainingMethod):
            assert training is not None
            result = _retrain(cell, store, dense, decoder, training, advance)
        else:
            result = driver.prune(
                cell.method,
                decoder,
                cell.target,
                seed=cell.seed,
                tokens_NL=tokens,
                statistics=statistics,
                training_NL=training,
                loss=mean_loss(dense) if cell.method.structured else None,
                progress=advance,
                into=SpilledWeights(folder / SPILL),
            )
        seconds = time.perf_counter() - start
    figures = dict(result.figures)
    # A training that went on from a checkpoint has cost what it took before as well.
    seconds = max(seconds, figures.get("training_seconds", 0.0))
    calibration_seconds = shared_seconds + figures.pop("calibration_seconds", 0.0)
    by_layer = driver.layer_sparsity(decoder, result.weights)
    facts = {
        "method": cell.method.name,
        "target": str(cell.target),
        "prune_seconds": seconds - (calibration_seconds - shared_seconds),
        "calibration_seconds": calibration_seconds,
        "learned": "" if cell.method.learns == "nothing" else cell.method.learns,
        "training_tokens": round(figures.pop("training_tokens", 0)),
        "training_seconds": figures.pop("training_seconds", 0.0),
        "training_processes": _processes(cell),
        # Of the process that took most: this one, or one that it started.
        "peak_memory_bytes": max(peak.bytes, round(figures.get(MOST_MEMORY, 0))),
        "sparsity": driver.sparsity(decoder, by_layer),
        "layer_sparsity": by_layer,
        "counted_weights": sum(layer.stored.numel() for layer in decoder.layers().values()),
        "figures": figures,
        "environment": environment(),
    }
    _save(cell, dense, model_folder(cell.model, store, trust), result, folder)
    shutil.rmtree(folder / SPILL, ignore_errors=True)
    # What the cell itself cost, the checkpoint's writing included.
    return facts | {"step_seconds": time.perf_counter() - begun}


def _texts(cell: Cell, store: Store, trust: Trust) -> tuple[Tensor | None, Tensor | None]:
    """(calibration windows, training windows) where the method looks at them itself."""
    tokens = training = None
    if cell.method.uses_calibration and not cell.statistics_windows:
        assert cell.model.calibration is not None
        tokens = load_tokens(windows_of(cell.model, cell.model.calibration, store, trust))
    if cell.method.uses_training:
        assert cell.model.training is not None
        training = load_tokens(windows_of(cell.model, cell.model.training, store, trust))
    return tokens, training


def _retrain(
    cell: Cell,
    store: Store,
    dense: PreTrainedModel,
    decoder: Decoder,
    training_NL: Tensor,
    advance: Progress,
) -> PruneResult:
    from tasks.training.run import retrain

    assert isinstance(cell.method, RetrainingMethod)
    return retrain(
        dense,
        decoder,
        cell.method,
        cell.target,
        training_NL,
        seed=cell.seed,
        processes=_processes(cell),
        scratch=scratch_of(cell, store),
        checkpoint_seconds=cell.training.checkpoint_seconds,
        progress=advance,
    )


def _processes(cell: Cell) -> int:
    """How many train; 1 for methods that do not."""
    if not isinstance(cell.method, RetrainingMethod):
        return 1
    return cell.training.processes or max(1, torch.cuda.device_count())


def _save(
    cell: Cell, dense: PreTrainedModel, source: Path, result: PruneResult, folder: Path
) -> None:
    metadata: dict[str, Any] = {
        "fingerprint": cell.pruned.fingerprint,
        "inputs": dict(cell.pruned.inputs),
    }
    if result.kept is not None:
        metadata["kept"] = kept_to_json(result.kept)
    save_checkpoint(dense, source, result.weights, folder, dtype=dense.dtype, metadata=metadata)
    if result.branches:
        save_branches(folder, result.branches)
    if result.history:
        (folder / HISTORY).write_text(json.dumps([dict(step) for step in result.history]))


def _label(cell: Cell) -> str:
    return f"{cell.model.model.spec} {cell.label}"


def checkpoint_of(cell: Cell, store: Store, trust: Trust, *, contents: bool = True) -> Artifact:
    """The pruned model's folder, pruned now unless it is there and intact."""
    made = store.get_or_create(
        cell.checkpoint, lambda folder: _compute(cell, store, trust, folder), contents=contents
    )
    # Only now: until the artifact has its name, a kill must not cost the training.
    shutil.rmtree(scratch_of(cell, store), ignore_errors=True)
    return made


def is_evaluated(cell: Cell, store: Store) -> bool:
    return all(store.find(step) for step in cell.measures.steps())


def is_complete(cell: Cell, store: Store, *, keep_checkpoint: bool) -> bool:
    """Whether nothing is left to compute for a cell."""
    if store.find(cell.pruned) is None or not is_evaluated(cell, store):
        return False
    return not keep_checkpoint or store.find(cell.checkpoint) is not None


def history_of(cell: Cell, store: Store) -> list[dict[str, float]]:
    """Figures of the cell's learning, step by step; empty for methods that do not learn."""
    found = store.find(cell.pruned)
    path = found.path / HISTORY if found else None
    return json.loads(path.read_text()) if path and path.is_file() else []


def _facts_of(checkpoint: Artifact, folder: Path) -> Mapping[str, Any]:
    """The facts outlive the checkpoint, which a sweep may not keep."""
    history = checkpoint.path / HISTORY
    if history.is_file():
        shutil.copyfile(history, folder / HISTORY)
    return checkpoint.facts


@task(
    name="prune",
    task_run_name="{cell.action} {cell.label}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def prune(cell: Cell, store: Store, trust: Trust, keep_checkpoint: bool) -> Any:
    """Prune or retrain the model of a cell; the checkpoint and the facts go to the store."""
    found = store.find(cell.pruned)
    needed = keep_checkpoint or not is_evaluated(cell, store)
    if found and not (needed and store.find(cell.checkpoint) is None):
        return cached(_told(found))
    checkpoint = checkpoint_of(cell, store, trust)
    facts = store.get_or_create(cell.pruned, lambda folder: _facts_of(checkpoint, folder))
    return cached(_told(facts)) if checkpoint.reused else _told(facts)


def _told(artifact: Artifact) -> dict[str, Any]:
    return {key: artifact.facts[key] for key in ("sparsity", "prune_seconds")}
