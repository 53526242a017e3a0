"""An evaluation in several processes, each with some of the windows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from tasks.measures.perplexity.here import Measured
from tasks.measures.perplexity.job import Job, read_figures, write_job
from tasks.models.load import DTYPES
from tasks.processes.launcher import run_ranks
from tasks.processes.rank_files import read_reports


def measure_in_processes(
    folder: Path,
    job: Job,
    windows_NL: Tensor,
    processes: int,
    scratch: Path,
    progress: Callable[[int, int], None] | None,
) -> Measured:
    """Measure all windows with so many processes, which load the model from ``folder``.

    Raises:
        RankError: a process failed; the message holds its traceback.
    """
    write_job(scratch, folder, job, windows_NL)
    run_ranks(
        "tasks.measures.perplexity.worker", scratch, processes, work="evaluation", progress=progress
    )
    reports = read_reports(scratch, processes)
    return Measured(
        read_figures(scratch),
        reports[0]["parameters"],
        reports[0]["nonzero_parameters"],
        DTYPES[reports[0]["dtype"]],
        tuple(report["peak_memory_bytes"] for report in reports),
    )
