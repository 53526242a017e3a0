"""What a subject, dense or pruned, is worth: perplexity and agreement, as steps of the store."""

from __future__ import annotations

import contextlib
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.schema import Evaluation
from configs.trust import Trust
from tasks.measures.perplexity.reference import Reference
from tasks.measures.perplexity.run import evaluate_windows
from tasks.models.load import best_device, resolve_dtype
from tasks.runtime.environment import environment
from tasks.runtime.progress import work
from tasks.steps.prepare import load_tokens, model_folder, windows_of
from tasks.steps.states import cached
from tasks.steps.subject import Subject
from tasks.store.store import Artifact, Store

PROCESSES_FOLDER = "evaluation"
"""Below the home: what evaluation processes tell each other."""


def _compute(
    subject: Subject, name: str, store: Store, trust: Trust, evaluation: Evaluation, out: Path
) -> Mapping[str, Any]:
    begun = time.perf_counter()
    model, device = subject.model, best_device()
    tokens = load_tokens(windows_of(model, model.evaluations[name], store, trust))
    processes = processes_of(evaluation, len(tokens))
    folder = subject.folder(store, trust)
    network = subject.network(store, trust, evaluation) if processes == 1 else None
    reference = None
    if evaluation.agreement and subject.cell:
        dense = evaluated(Subject(model), name, store, trust, evaluation, contents=True)
        reference = Reference(dense.path, model_folder(model, store, trust))
    scratch = store.root / PROCESSES_FOLDER / out.name
    with work(subject.label, f"perplexity {name}") as advance, _removed(scratch):
        result = evaluate_windows(
            network if network is not None else folder,
            tokens,
            dtype=resolve_dtype(model.dtype, device),
            device=device,
            trust=trust,
            batch_size=evaluation.batch_size,
            processes=processes,
            device_map=evaluation.device_map,
            max_memory=evaluation.max_memory,
            reference=reference,
            write_reference=out if evaluation.agreement and subject.cell is None else None,
            scratch=scratch,
            progress=advance,
        )
    facts: dict[str, Any] = {
        # JSON has no infinity; a reader gets it back from `number_of`.
        "perplexity": result.perplexity if math.isfinite(result.perplexity) else "inf",
        "nll": result.nll if math.isfinite(result.nll) else "inf",
        "tokens": result.tokens,
        "seconds": result.seconds,
        "parameters": result.parameters,
        "nonzero_parameters": result.nonzero_parameters,
        "bytes_on_disk": result.parameters * resolve_dtype(model.dtype, device).itemsize,
        "peak_memory_bytes": max(result.peak_memory_bytes),
        "processes": processes,
        "batch_size": evaluation.batch_size,
        "device_map": evaluation.device_map,
        "environment": environment(),
    }
    if result.kl is not None:
        kl = result.kl if math.isfinite(result.kl) else "inf"
        facts |= {"kl": kl, "top1_agreement": result.top1_agreement}
    # What the subject itself cost, its loading included.
    return facts | {"step_seconds": time.perf_counter() - begun}


@contextlib.contextmanager
def _removed(scratch: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def processes_of(evaluation: Evaluation, parts: int) -> int:
    """As the sweep says, else one a GPU, or one on a CPU, whose cores one process already uses.

    Args:
        parts: windows or documents that there are to share.
    """
    import torch

    if evaluation.device_map == "auto":
        return 1
    return evaluation.processes or max(1, min(torch.cuda.device_count(), parts))


def evaluated(
    subject: Subject,
    name: str,
    store: Store,
    trust: Trust,
    evaluation: Evaluation,
    *,
    contents: bool = False,
) -> Artifact:
    """The step that evaluates a subject on one corpus.

    Args:
        contents: its files are about to be used, and are compared in full.
    """
    return store.get_or_create(
        subject.measures.perplexity[name],
        lambda folder: _compute(subject, name, store, trust, evaluation, folder),
        contents=contents,
    )


def number_of(artifact: Artifact, name: str) -> float:
    """A figure among an artifact's facts, infinity included."""
    return float(artifact.facts[name])


@task(
    name="evaluate",
    task_run_name="perplexity {name} of {subject.label}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def evaluate(
    subject: Subject, name: str, store: Store, trust: Trust, evaluation: Evaluation
) -> Any:
    """Perplexity of a subject, as saved, on one corpus, and its agreement with the dense model."""
    artifact = evaluated(subject, name, store, trust, evaluation)
    value = number_of(artifact, "perplexity")
    return cached(value) if artifact.reused else value
