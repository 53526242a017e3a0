"""One rank of a training run, called by ``launcher.py`` alone. Rank 0 writes the result."""

from __future__ import annotations

from typing import Any

from tasks.processes.rank import Rank, joined


def train_rank(facts: dict[str, Any], rank: Rank) -> int:
    """This rank's part; returns its peak memory in bytes."""
    from configs.trust import Trust
    from tasks.models.architecture.decoder import describe
    from tasks.models.load import DTYPES, load_model
    from tasks.pruning.core.registry import get, parse_target
    from tasks.pruning.core.retraining import RetrainingMethod
    from tasks.runtime.memory import measured
    from tasks.training.files import MODEL, Job, read_windows, write_result
    from tasks.training.run import retrain_here

    job = Job(**facts)
    device = rank.device(on_cpu=job.on_cpu)
    with joined(device):
        trust = Trust(remote_code=job.remote_code)
        model = load_model(rank.scratch / MODEL, DTYPES[job.dtype], device, trust)
        method = get(job.method)(**job.options)
        assert isinstance(method, RetrainingMethod)
        training_NL, counted_NL = read_windows(rank.scratch)
        with measured(device.type) as peak:
            result = retrain_here(
                model,
                describe(model, tuple(job.exclude)),
                method,
                parse_target(job.target),
                training_NL,
                counted_NL=counted_NL,
                seed=job.seed,
                scratch=rank.scratch,
                # All ranks take every step together.
                progress=rank.tell if rank.index == 0 else None,
                checkpoint_seconds=job.checkpoint_seconds,
            )
        if rank.index == 0:
            write_result(rank.scratch, result)
    return peak.bytes
