"""What pruning does to each layer's output, as a step of the store."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.trust import Trust
from tasks.measures.layer_errors import CheckpointWeights, reconstruction_errors
from tasks.models.architecture.decoder import describe
from tasks.plan.measures import RECONSTRUCTION_WINDOWS
from tasks.plan.plan import Cell
from tasks.runtime.progress import work
from tasks.steps.prepare import dense_model, load_tokens, windows_of
from tasks.steps.prune import checkpoint_of
from tasks.steps.states import cached
from tasks.steps.subject import Subject
from tasks.store.store import Store


@task(
    name="reconstruction error",
    task_run_name="reconstruction error of {cell.label}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def reconstruct(cell: Cell, store: Store, trust: Trust, batch_size: int) -> Any:
    """Relative error of each pruned layer's output, on the dense model's inputs."""
    step = cell.measures.reconstruction
    assert step is not None

    def produce(folder: Path) -> Mapping[str, Any]:
        del folder
        begun = time.perf_counter()
        windows = next(iter(cell.model.evaluations.values()))
        tokens = load_tokens(windows_of(cell.model, windows, store, trust))
        dense = dense_model(cell.model, store, trust)
        checkpoint = checkpoint_of(cell, store, trust).path
        with work(Subject(cell.model, cell).label, "reconstruction error") as advance:
            errors = reconstruction_errors(
                dense,
                describe(dense),
                CheckpointWeights(checkpoint),
                tokens[:RECONSTRUCTION_WINDOWS],
                batch_size=batch_size,
                progress=advance,
            )
        mean = sum(errors.values()) / len(errors)
        return {
            # JSON has no infinity; `float` reads it back.
            "layer_errors": {name: _finite(error) for name, error in errors.items()},
            "mean": _finite(mean),
            "step_seconds": time.perf_counter() - begun,
        }

    artifact = store.get_or_create(step, produce)
    mean = float(artifact.facts["mean"])
    return cached(mean) if artifact.reused else mean


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else "inf"
