"""One rank's part of zero-shot tasks: what it is told, and what rank 0 leaves.

The processes are started by another; each has joined a process group when it comes here.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.schema import Trust
from tasks.evaluation.harness.results import TaskResult
from tasks.evaluation.harness.tasks import ResolvedTask

if TYPE_CHECKING:
    import torch

    from tasks.pruning.base import Progress

_JOB, _RESULTS = "zero-shot.json", "zero-shot-results.json"


@dataclass(frozen=True)
class ZeroShotJob:
    """
    Attributes:
        folder: a plain model or a checkpoint, which is loaded sliced where it can be.
        dtype: float32, bfloat16 or float16.
        tasks, limit, num_fewshot, batch_size, seed: see :func:`tasks.evaluation.zero_shot`.
        remote_code, pickle_weights: see ``trust``.
        on_cpu: else each rank takes the GPU of its number.
    """

    folder: str
    dtype: str
    tasks: tuple[ResolvedTask, ...]
    limit: int | None = None
    num_fewshot: int | None = None
    batch_size: int = 4
    seed: int | None = None
    remote_code: bool = False
    pickle_weights: bool = False
    on_cpu: bool = True


def write_job(scratch: Path, job: ZeroShotJob) -> None:
    """Leave for all ranks what they shall do."""
    (scratch / _JOB).write_text(json.dumps(dataclasses.asdict(job)), encoding="utf-8")


def run_rank(scratch: Path, device: torch.device, progress: Progress | None = None) -> None:
    """Load the model and measure this rank's share; rank 0 leaves the results."""
    from tasks.evaluation.zero_shot import zero_shot
    from tasks.models.load import DTYPES, load_tokenizer
    from tasks.models.pruned import load_pruned

    job = read_job(scratch)
    trust = Trust(remote_code=job.remote_code, pickle_weights=job.pickle_weights)
    folder = Path(job.folder)
    results = zero_shot(
        load_pruned(folder, DTYPES[job.dtype], device, trust),
        load_tokenizer(folder, trust),
        job.tasks,
        limit=job.limit,
        num_fewshot=job.num_fewshot,
        batch_size=job.batch_size,
        seed=job.seed,
        progress=progress,
    )
    if results:
        found = {name: result.as_json() for name, result in results.items()}
        (scratch / _RESULTS).write_text(json.dumps(found, allow_nan=False), encoding="utf-8")


def read_results(scratch: Path) -> dict[str, TaskResult]:
    """What the ranks measured, once all have ended well."""
    found = json.loads((scratch / _RESULTS).read_text(encoding="utf-8"))
    return {name: TaskResult.from_json(facts) for name, facts in found.items()}


def read_job(scratch: Path) -> ZeroShotJob:
    """What :func:`write_job` left."""
    facts: dict[str, Any] = json.loads((scratch / _JOB).read_text(encoding="utf-8"))
    return ZeroShotJob(**{**facts, "tasks": tuple(ResolvedTask(**t) for t in facts["tasks"])})
