"""Zero-shot tasks in several processes, each with some of the documents."""

from __future__ import annotations

import shutil
from pathlib import Path

from tasks.evaluation.harness.results import TaskResult
from tasks.evaluation.zero_shot_rank import ZeroShotJob, read_results, write_job
from tasks.pruning.base import Progress
from tasks.ranks.files import read_reports
from tasks.ranks.launcher import run_ranks


def zero_shot_in_processes(
    job: ZeroShotJob, processes: int, scratch: Path, progress: Progress | None
) -> tuple[dict[str, TaskResult], int]:
    """Measure a job's tasks with so many processes, which load the model from its folder.

    Args:
        scratch: a folder of this run alone, gone afterwards.

    Returns:
        The results, and the most memory in bytes that a process needed.

    Raises:
        RankError: a process failed; the message holds its traceback.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        write_job(scratch, job)
        run_ranks(
            "tasks.evaluation.zero_shot_worker",
            scratch,
            processes,
            work="zero-shot evaluation",
            progress=progress,
        )
        reports = read_reports(scratch, processes)
        return read_results(scratch), max(report["peak_memory_bytes"] for report in reports)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
