"""Evaluates a model on windows: in this process, in several, or spread over several devices.

Whichever way, the figures are the same: they are kept by window and added up exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.measures.perplexity.here import Job, Measured, measure_here
from tasks.measures.perplexity.perplexity import PerplexityResult, result_of
from tasks.measures.perplexity.ranks import measure_in_processes
from tasks.measures.perplexity.reference import Reference, clear_reference, finish_reference
from tasks.models.next_tokens import require_predictions
from tasks.models.placement import load_placed
from tasks.models.saved.pruned import load_pruned
from tasks.runtime.memory import measured

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PROCESSES = "evaluation.processes"


@dataclass(frozen=True)
class Evaluated(PerplexityResult):
    """
    Attributes:
        peak_memory_bytes: of each process, model included. What processes map of one file is
            counted in each of them and is in memory once.
    """

    peak_memory_bytes: tuple[int, ...] = ()


def evaluate_windows(
    model: PreTrainedModel | Path,
    windows_NL: Tensor,
    *,
    scratch: Path,
    device: torch.device,
    dtype: torch.dtype | None = None,
    trust: Trust | None = None,
    batch_size: int = 4,
    processes: int = 1,
    device_map: str = "none",
    max_memory: Mapping[str, str] | None = None,
    reference: Reference | None = None,
    write_reference: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """Perplexity of ``model`` on the windows, and its agreement with a dense model.

    Args:
        model: a folder, or in one process a loaded model, which is measured where it lies.
        windows_NL: token ids, at least one window of at least two tokens.
        scratch: a folder of this run alone, which the caller may remove afterwards.
        device, processes: where the model goes; several share the windows, one a GPU if it is one.
        dtype: of the weights; the saved ones' when not given.
        device_map, max_memory: as ``evaluation`` in a sweep file.
        reference: the dense model's states on the same windows, to compare with.
        write_reference: a folder to write this model's states to, as a reference for others.
        progress: called with (windows done, windows in all).

    Raises:
        ConfigurationError: more processes than windows or GPUs, or bad ``max_memory``.
        ValueError: for no windows, windows that predict nothing, or a reference of others.
        UnsupportedModelError: the model cannot be loaded in this way.
        FloatingPointError: when the loss or the divergence is NaN.
        CallError: a process failed; the message holds its traceback.
    """
    require_predictions(windows_NL)
    job = Job(
        batch_size=batch_size,
        reference=reference,
        write_reference=write_reference,
        trust=trust or Trust(),
        dtype=dtype,
        on_cpu=device.type == "cpu",
    )
    if write_reference:
        clear_reference(write_reference)
    if processes > 1:
        folder = _folder_for(model, processes, len(windows_NL), device, device_map)
        found = measure_in_processes(folder, job, windows_NL, processes, scratch, progress)
    else:
        limits = (max_memory or {}) if device_map == "auto" else None
        with measured(device.type) as peak:
            network = _loaded(model, job, device, limits, scratch)
            found = measure_here(network, job, windows_NL, range(len(windows_NL)), progress)
        found = dataclasses.replace(found, peaks=(peak.bytes,))
    evaluated = _evaluated(found, windows_NL)
    if write_reference:
        finish_reference(write_reference, windows_NL, found.dtype)
    return evaluated


def _evaluated(found: Measured, windows_NL: Tensor) -> Evaluated:
    result = result_of(found.figures, windows_NL)
    return Evaluated(**dataclasses.asdict(result), peak_memory_bytes=found.peaks)


def _loaded(
    model: PreTrainedModel | Path,
    job: Job,
    device: torch.device,
    limits: Mapping[str, str] | None,
    scratch: Path,
) -> PreTrainedModel:
    """
    Args:
        limits: of each device, where the model is to be spread over several.
    """
    if not isinstance(model, Path):
        return model
    if limits is None:
        return load_pruned(model, job.dtype, device, job.trust)
    return load_placed(model, job.dtype, job.trust, max_memory=limits, scratch=scratch)


def _folder_for(
    model: PreTrainedModel | Path,
    processes: int,
    windows: int,
    device: torch.device,
    device_map: str,
) -> Path:
    """The folder that so many processes can load and share."""
    if device_map == "auto":
        raise ConfigurationError(_PROCESSES, processes, "device_map auto uses one process")
    if not isinstance(model, Path):
        raise TypeError("several processes load the model from its folder; give that")
    if processes > windows:
        allowed = f"at most one process a window is, and there are {windows} windows"
        raise ConfigurationError(_PROCESSES, processes, allowed)
    if device.type == "cuda" and processes > torch.cuda.device_count():
        allowed = f"at most one a GPU is, and there are {torch.cuda.device_count()} GPUs"
        raise ConfigurationError(_PROCESSES, processes, allowed)
    return model
