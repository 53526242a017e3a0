"""One rank of an evaluation, called by ``processes.py`` alone: some of the windows.

Accelerate shares the windows out and gathers what came of them. Each rank maps the checkpoint's
files, so that weights in their saved dtype are in memory once for all ranks of a machine.
"""

from __future__ import annotations

from typing import Any

from tasks.processes.rank import Rank, joined


def measure_rank(facts: dict[str, Any], rank: Rank) -> dict[str, Any]:
    """This rank's part; returns what it has to say about the model and its memory."""
    from accelerate import PartialState
    from accelerate.utils import gather_object

    from tasks.measures.perplexity.here import measure_here
    from tasks.measures.perplexity.job import name_of, read_job, read_windows, write_figures
    from tasks.models.saved.pruned import load_pruned
    from tasks.runtime.memory import measured

    (folder, job), windows_NL = read_job(facts), read_windows(rank.scratch)
    device = rank.device(on_cpu=job.on_cpu)

    def tell(done: int, _: int) -> None:
        rank.tell(done, len(windows_NL))

    with joined(device):
        state = PartialState(cpu=job.on_cpu)
        numbers: Any
        with (
            measured(device.type) as peak,
            state.split_between_processes(list(range(len(windows_NL)))) as numbers,
        ):
            share = range(numbers[0], numbers[-1] + 1)
            model = load_pruned(folder, job.torch_dtype, device, job.trust)
            found = measure_here(model, job, windows_NL, share, tell)
        parts = gather_object([(share.start, found.figures)])
        if rank.index == 0:
            write_figures(rank.scratch, parts)
    return {
        "peak_memory_bytes": peak.bytes,
        "parameters": found.parameters,
        "nonzero_parameters": found.nonzero_parameters,
        "dtype": name_of(found.dtype),
    }
