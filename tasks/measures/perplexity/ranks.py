"""An evaluation in several processes of this machine, each with some of the windows.

Each maps the checkpoint's files, so that weights in their saved dtype are in memory once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.trust import Trust
from tasks.measures.perplexity.here import Job, Measured, measure_here
from tasks.measures.perplexity.reference import Reference
from tasks.models.load import DTYPES
from tasks.models.next_tokens import WindowFigures
from tasks.models.saved.pruned import load_pruned
from tasks.processes.call import call
from tasks.processes.rank import Rank, joined
from tasks.runtime.memory import measured

_WINDOWS = "windows.safetensors"


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
    from safetensors.torch import save_file

    scratch.mkdir(parents=True, exist_ok=True)
    save_file({"windows": windows_NL.cpu().contiguous()}, scratch / _WINDOWS)
    reports = call(
        measure_rank,
        {"model": str(folder.absolute()), **_as_json(job)},
        work="evaluation",
        processes=processes,
        scratch=scratch,
        progress=progress,
    )
    nll_N = _by_window(reports, "nll_N")
    assert nll_N is not None
    figures = WindowFigures(
        nll_N,
        _by_window(reports, "divergence_N"),
        _by_window(reports, "agreed_N"),
        max(report["seconds"] for report in reports),  # of the slowest
    )
    return Measured(
        figures,
        DTYPES[reports[0]["dtype"]],
        tuple(report["peak_memory_bytes"] for report in reports),
    )


def measure_rank(facts: dict[str, Any], rank: Rank) -> dict[str, Any]:
    """Measure the windows that Accelerate gives this rank; all that it has to say of them."""
    from accelerate import PartialState
    from safetensors.torch import load_file

    job = _from_json(facts)
    windows_NL = load_file(rank.scratch / _WINDOWS)["windows"]
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
            model = load_pruned(Path(facts["model"]), job.dtype, device, job.trust)
            found = measure_here(model, job, windows_NL, share, tell)
    figures = found.figures
    return {
        "nll_N": _exact(figures.nll_N),
        "divergence_N": _exact(figures.divergence_N),
        "agreed_N": _exact(figures.agreed_N),
        "seconds": figures.seconds,
        "peak_memory_bytes": peak.bytes,
        "dtype": _name_of(found.dtype),
    }


def _by_window(reports: Sequence[Mapping[str, Any]], name: str) -> Tensor | None:
    """The figures of all windows: ranks have them in order."""
    if reports[0][name] is None:
        return None
    values = [float(text) for report in reports for text in report[name]]
    return torch.tensor(values, dtype=torch.float64)


def _exact(values_N: Tensor | None) -> list[str] | None:
    """As text: JSON has neither infinity nor NaN."""
    return None if values_N is None else [repr(value) for value in values_N.tolist()]


def _as_json(job: Job) -> dict[str, Any]:
    reference = (job.reference.folder, job.reference.model) if job.reference else ()
    return {
        "batch_size": job.batch_size,
        "reference": [str(folder.absolute()) for folder in reference],
        "write_reference": str(job.write_reference.absolute()) if job.write_reference else "",
        "trust": job.trust.model_dump(),
        "dtype": _name_of(job.dtype) if job.dtype else "",
        "on_cpu": job.on_cpu,
    }


def _from_json(facts: Mapping[str, Any]) -> Job:
    reference = facts["reference"]
    return Job(
        batch_size=facts["batch_size"],
        reference=Reference(*map(Path, reference)) if reference else None,
        write_reference=Path(facts["write_reference"]) if facts["write_reference"] else None,
        trust=Trust(**facts["trust"]),
        dtype=DTYPES[facts["dtype"]] if facts["dtype"] else None,
        on_cpu=facts["on_cpu"],
    )


def _name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
