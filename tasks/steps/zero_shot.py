"""Zero-shot tasks of a subject, dense or pruned, as steps of the store: one a task."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from configs.schema import Evaluation
from configs.trust import Trust
from tasks.measures.zero_shot.rank import ZeroShotJob, zero_shot_in_processes
from tasks.measures.zero_shot.results import TaskResult
from tasks.measures.zero_shot.tasks import ResolvedTask
from tasks.models.load import best_device, load_tokenizer
from tasks.pruning.core.methods import Progress
from tasks.runtime.environment import environment
from tasks.runtime.memory import measured
from tasks.runtime.progress import work
from tasks.steps.evaluate import PROCESSES_FOLDER, processes_of
from tasks.steps.states import cached
from tasks.steps.subject import Subject
from tasks.store.store import Artifact, Store

_MANY = 1 << 20
"""Stands for the documents of a task that is judged in full."""


@task(
    name="zero-shot",
    task_run_name="zero-shot {name} of {subject.label}",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def evaluate_zero_shot(
    subject: Subject, name: str, store: Store, trust: Trust, evaluation: Evaluation
) -> Any:
    """Judge a subject, as saved, on one task."""
    chosen = next(task for task in subject.model.zero_shot if task.name == name)
    artifact = store.get_or_create(
        subject.measures.zero_shot[name],
        lambda folder: _judge(subject, chosen, store, trust, evaluation, folder),
    )
    value = result_of(artifact).value
    return cached(value) if artifact.reused else value


def result_of(artifact: Artifact) -> TaskResult:
    return TaskResult.from_json(artifact.facts["result"])


def _judge(
    subject: Subject,
    chosen: ResolvedTask,
    store: Store,
    trust: Trust,
    evaluation: Evaluation,
    out: Path,
) -> Mapping[str, Any]:
    begun = time.perf_counter()
    limit = evaluation.zero_shot.limit
    processes, device = processes_of(evaluation, limit or _MANY), best_device()
    job = ZeroShotJob(
        folder=str(subject.folder(store, trust).absolute()),
        dtype=subject.model.dtype,
        tasks=(chosen,),
        limit=limit,
        num_fewshot=evaluation.zero_shot.num_fewshot,
        batch_size=evaluation.batch_size,
        remote_code=trust.remote_code,
        pickle_weights=trust.pickle_weights,
        on_cpu=device.type == "cpu",
    )
    with work(subject.label, f"zero-shot {chosen.name}") as advance:
        start = time.perf_counter()
        if processes > 1:
            scratch = store.root / PROCESSES_FOLDER / out.name
            scratch.mkdir(parents=True, exist_ok=True)
            try:
                results = zero_shot_in_processes(job, scratch, processes, advance)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            peak_bytes = 0
        else:
            with measured(device.type) as peak:
                results = _judge_here(subject, job, store, trust, evaluation, advance)
            peak_bytes = peak.bytes
        seconds = time.perf_counter() - start
    return {
        "result": results[chosen.name].as_json(),
        "seconds": seconds,
        "peak_memory_bytes": peak_bytes,
        "processes": processes,
        "environment": environment(),
        "step_seconds": time.perf_counter() - begun,
    }


def _judge_here(
    subject: Subject,
    job: ZeroShotJob,
    store: Store,
    trust: Trust,
    evaluation: Evaluation,
    progress: Progress,
) -> dict[str, TaskResult]:
    from tasks.measures.zero_shot.evaluate import zero_shot

    return zero_shot(
        subject.network(store, trust, evaluation),
        load_tokenizer(Path(job.folder), trust),
        job.tasks,
        limit=job.limit,
        num_fewshot=job.num_fewshot,
        batch_size=job.batch_size,
        progress=progress,
    )
