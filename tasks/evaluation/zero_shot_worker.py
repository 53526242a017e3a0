"""One rank of zero-shot tasks, started by ``zero_shot_processes.py`` alone."""

from __future__ import annotations

import sys

from tasks.ranks.rank import Rank, joined, main


def _run(rank: Rank) -> None:
    from tasks.evaluation.zero_shot_rank import read_job, run_rank
    from tasks.memory import measured

    device = rank.device(on_cpu=read_job(rank.scratch).on_cpu)
    with joined(device):
        with measured(device.type) as peak:
            run_rank(rank.scratch, device, rank.tell)
        rank.report({"peak_memory_bytes": peak.bytes})


if __name__ == "__main__":
    sys.exit(main(_run))
