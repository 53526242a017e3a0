"""Zero-shot tasks in several processes of this machine, and one rank of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.trust import Trust
from tasks.measures.zero_shot.questions import Question
from tasks.measures.zero_shot.results import TaskResult
from tasks.measures.zero_shot.tasks import ResolvedTask
from tasks.processes.call import call
from tasks.processes.rank import Rank, joined
from tasks.runtime.memory import measured

if TYPE_CHECKING:
    from tasks.pruning.core.methods import Progress


@dataclass(frozen=True)
class ZeroShotJob:
    """
    Attributes:
        folder: a plain model or a checkpoint, which is loaded sliced where it can be.
        dtype: float32, bfloat16 or float16.
        on_cpu: or each rank on the GPU of its number.
        tasks, limit, num_fewshot, batch_size, seed, may_idle: see :func:`zero_shot`.
        remote_code, pickle_weights: see ``trust``.
    """

    folder: str
    dtype: str
    tasks: tuple[ResolvedTask, ...]
    limit: int | None = None
    num_fewshot: int | None = None
    batch_size: int = 4
    seed: int | None = None
    may_idle: bool = False
    remote_code: bool = False
    pickle_weights: bool = False
    on_cpu: bool = True


def zero_shot_in_processes(
    job: ZeroShotJob, scratch: Path, processes: int, progress: Progress | None = None
) -> tuple[dict[str, TaskResult], int]:
    """What :func:`zero_shot` measures, with the documents shared over processes.

    Args:
        scratch: a folder that exists, of this run alone.
        progress: called with (sequences computed by all ranks, sequences in all).

    Returns:
        Task name → result; and the peak memory in bytes of the process that took most.

    Raises:
        CallError: a rank failed; the message holds its traceback.
    """
    reports = call(
        measure_rank,
        dataclasses.asdict(job),
        work="zero-shot",
        processes=processes,
        scratch=scratch,
        progress=progress,
    )
    results = {
        name: replace(
            TaskResult.from_json(facts["result"]),
            questions=tuple(map(Question.from_json, facts["questions"])),
        )
        for name, facts in reports[0]["tasks"].items()
    }
    return results, max(report["peak_memory_bytes"] for report in reports)


def measure_rank(facts: dict[str, Any], rank: Rank) -> dict[str, Any]:
    """Load the model and measure this rank's share; rank 0 returns the results of all."""
    from tasks.measures.zero_shot.evaluate import zero_shot
    from tasks.models.load import DTYPES, load_tokenizer
    from tasks.models.saved.pruned import load_pruned

    job = ZeroShotJob(**{**facts, "tasks": tuple(ResolvedTask(**t) for t in facts["tasks"])})
    device = rank.device(on_cpu=job.on_cpu)
    trust = Trust(remote_code=job.remote_code, pickle_weights=job.pickle_weights)
    folder = Path(job.folder)
    with joined(device), measured(device.type) as peak:
        results = zero_shot(
            load_pruned(folder, DTYPES[job.dtype], device, trust),
            load_tokenizer(folder, trust),
            job.tasks,
            limit=job.limit,
            num_fewshot=job.num_fewshot,
            batch_size=job.batch_size,
            seed=job.seed,
            may_idle=job.may_idle,
            progress=rank.tell,
        )
    tasks = {
        name: {
            "result": result.as_json(),
            "questions": [question.as_json() for question in result.questions],
        }
        for name, result in results.items()
    }
    return {"tasks": tasks, "peak_memory_bytes": peak.bytes}
