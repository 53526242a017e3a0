"""An evaluation in several processes, each with some of the windows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from tasks.measures.perplexity.here import Measured
from tasks.measures.perplexity.job import Job, as_facts, read_figures, write_windows
from tasks.measures.perplexity.worker import measure_rank
from tasks.models.load import DTYPES
from tasks.processes.call import call


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
        CallError: a process failed; the message holds its traceback.
    """
    write_windows(scratch, windows_NL)
    reports = call(
        measure_rank,
        as_facts(folder, job),
        work="evaluation",
        processes=processes,
        scratch=scratch,
        progress=progress,
    )
    return Measured(
        read_figures(scratch),
        reports[0]["parameters"],
        reports[0]["nonzero_parameters"],
        DTYPES[reports[0]["dtype"]],
        tuple(report["peak_memory_bytes"] for report in reports),
    )
