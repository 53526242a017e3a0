"""One cell's pruning: statistics in, a checkpoint and its facts out."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.schema import Trust
from tasks.environment import environment
from tasks.memory import measured
from tasks.models.decoder import describe
from tasks.models.load import best_device
from tasks.models.save import save_checkpoint
from tasks.plan import Cell
from tasks.prepare import (
    dense_model,
    load_statistics,
    load_tokens,
    model_folder,
    statistics_of,
    windows_of,
)
from tasks.progress import work
from tasks.pruning import driver
from tasks.states import cached
from tasks.store import Artifact, Store


def _compute(cell: Cell, store: Store, trust: Trust, folder: Path) -> Mapping[str, Any]:
    statistics = tokens = None
    shared_seconds = 0.0
    if cell.statistics_windows:
        artifact = statistics_of(cell.model, cell.statistics_windows, store, trust)
        statistics, shared_seconds = load_statistics(artifact), artifact.facts["seconds"]
    elif cell.method.uses_calibration:
        assert cell.model.calibration is not None
        tokens = load_tokens(windows_of(cell.model, cell.model.calibration, store, trust))
    dense = dense_model(cell.model, store, trust)
    decoder = describe(dense)
    label = f"{cell.model.model.spec} {cell.label}"
    begun = time.perf_counter()
    with measured(best_device().type) as peak, work(label, "prune") as advance:
        start = time.perf_counter()
        result = driver.prune(
            cell.method,
            decoder,
            cell.target,
            seed=cell.seed,
            tokens_NL=tokens,
            statistics=statistics,
            progress=advance,
        )
        seconds = time.perf_counter() - start
    calibration_seconds = shared_seconds + result.figures.pop("calibration_seconds", 0.0)
    by_layer = driver.layer_sparsity(decoder, result.weights)
    facts = {
        "method": cell.method.name,
        "target": str(cell.target),
        "prune_seconds": seconds - (calibration_seconds - shared_seconds),
        "calibration_seconds": calibration_seconds,
        "peak_memory_bytes": peak.bytes,
        "sparsity": driver.sparsity(decoder, by_layer),
        "layer_sparsity": by_layer,
        "figures": result.figures,
        "environment": environment(),
    }
    save_checkpoint(
        dense,
        model_folder(cell.model, store, trust),
        result.weights,
        folder,
        dtype=dense.dtype,
        metadata={"fingerprint": cell.pruned.fingerprint, "inputs": dict(cell.pruned.inputs)},
    )
    # What the cell itself cost, the checkpoint's writing included.
    return facts | {"step_seconds": time.perf_counter() - begun}


def checkpoint_of(cell: Cell, store: Store, trust: Trust, *, contents: bool = True) -> Artifact:
    """The pruned model's folder, pruned now unless it is there and intact."""
    return store.get_or_create(
        cell.checkpoint, lambda folder: _compute(cell, store, trust, folder), contents=contents
    )


def is_evaluated(cell: Cell, store: Store) -> bool:
    return all(store.find(step) for step in cell.evaluated.values())


def is_complete(cell: Cell, store: Store, *, keep_checkpoint: bool) -> bool:
    """Whether nothing is left to compute for a cell."""
    if store.find(cell.pruned) is None or not is_evaluated(cell, store):
        return False
    return not keep_checkpoint or store.find(cell.checkpoint) is not None


@task(
    name="prune",
    task_run_name="prune {cell.label}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def prune(cell: Cell, store: Store, trust: Trust, keep_checkpoint: bool) -> Any:
    """Prune the model of a cell; the checkpoint and the facts go to the store."""
    found = store.find(cell.pruned)
    needed = keep_checkpoint or not is_evaluated(cell, store)
    if found and not (needed and store.find(cell.checkpoint) is None):
        return cached(_told(found))
    checkpoint = checkpoint_of(cell, store, trust)
    facts = store.get_or_create(cell.pruned, lambda _: checkpoint.facts)
    return cached(_told(facts)) if checkpoint.reused else _told(facts)


def _told(artifact: Artifact) -> dict[str, Any]:
    return {key: artifact.facts[key] for key in ("sparsity", "prune_seconds")}
