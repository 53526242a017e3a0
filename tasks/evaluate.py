"""Perplexity of the dense model and of a cell's checkpoint, as steps of the store."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.schema import Trust
from tasks.environment import environment
from tasks.evaluation.perplexity import perplexity
from tasks.memory import measured
from tasks.models.branches import branch_tensors
from tasks.models.load import best_device, resolve_dtype
from tasks.models.pruned import load_pruned
from tasks.plan import Cell, ModelPlan
from tasks.prepare import dense_model, load_tokens, windows_of
from tasks.progress import work
from tasks.prune import checkpoint_of
from tasks.states import cached
from tasks.store import Artifact, Store

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def _measure(
    network: PreTrainedModel,
    model: ModelPlan,
    name: str,
    label: str,
    store: Store,
    trust: Trust,
    batch_size: int,
) -> Mapping[str, Any]:
    tokens = load_tokens(windows_of(model, model.evaluations[name], store, trust))
    with measured(best_device().type) as peak, work(label, f"perplexity {name}") as advance:
        result = perplexity(network, tokens, batch_size=batch_size, progress=advance)
    weights = [*network.parameters(), *branch_tensors(network)]
    return {
        # JSON has no infinity; a reader gets it back from `perplexity_of`.
        "perplexity": result.perplexity if math.isfinite(result.perplexity) else "inf",
        "nll": result.nll,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "parameters": sum(weight.numel() for weight in weights),
        "nonzero_parameters": sum(int(weight.count_nonzero()) for weight in weights),
        "peak_memory_bytes": peak.bytes,
        "environment": environment(),
    }


def perplexity_of(artifact: Artifact) -> float:
    return float(artifact.facts["perplexity"])


@task(
    name="evaluate dense",
    task_run_name="perplexity {name} of the dense {model.model.spec}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def evaluate_dense(model: ModelPlan, name: str, store: Store, trust: Trust, batch_size: int) -> Any:
    """Perplexity of the dense model on one corpus, once a sweep."""

    def produce(_: Path) -> Mapping[str, Any]:
        network = dense_model(model, store, trust)
        label = f"{model.model.spec} dense"
        return _measure(network, model, name, label, store, trust, batch_size)

    artifact = store.get_or_create(model.dense[name], produce)
    value = perplexity_of(artifact)
    return cached(value) if artifact.reused else value


@task(
    name="evaluate",
    task_run_name="perplexity {name} of {cell.label}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def evaluate(cell: Cell, name: str, store: Store, trust: Trust, batch_size: int) -> Any:
    """Perplexity of a cell's checkpoint, as saved, on one corpus."""

    def produce(_: Path) -> Mapping[str, Any]:
        folder = checkpoint_of(cell, store, trust).path
        begun = time.perf_counter()
        device = best_device()
        # Heads and channels that were removed are not computed.
        network = load_pruned(folder, resolve_dtype(cell.model.dtype, device), device, trust)
        label = f"{cell.model.model.spec} {cell.label}"
        facts = _measure(network, cell.model, name, label, store, trust, batch_size)
        # What the cell itself cost, the checkpoint's loading included.
        return {**facts, "step_seconds": time.perf_counter() - begun}

    artifact = store.get_or_create(cell.evaluated[name], produce)
    value = perplexity_of(artifact)
    return cached(value) if artifact.reused else value
