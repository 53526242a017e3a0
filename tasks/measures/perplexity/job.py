"""How windows are measured, and what a launcher and its ranks hand each other about it.

Tensors in safetensors, the rest in JSON; all in the scratch folder of one run.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.trust import Trust
from tasks.measures.perplexity.reference import Reference
from tasks.measures.perplexity.windows import WindowFigures
from tasks.models.load import DTYPES

_WINDOWS, _FIGURES = "windows.safetensors", "figures.safetensors"


@dataclass(frozen=True, kw_only=True)
class Job:
    """How windows are measured, in one process or in several.

    Attributes:
        dtype: of the weights, as ``float32``; empty: as saved.
        on_cpu: else each rank takes the GPU of its number.
        reference: (folder, dense model's folder), or empty.
        write_reference: where the model's states go, or empty.
    """

    batch_size: int
    reference: tuple[str, ...]
    write_reference: str
    dtype: str
    on_cpu: bool
    remote_code: bool
    pickle_weights: bool

    @classmethod
    def of(
        cls,
        *,
        batch_size: int,
        reference: Reference | None,
        write_reference: Path | None,
        trust: Trust,
        dtype: torch.dtype | None,
        on_cpu: bool,
    ) -> Job:
        """From what a caller says, in words that JSON has."""
        folders = (reference.folder, reference.model) if reference else ()
        return cls(
            batch_size=batch_size,
            reference=tuple(str(folder.absolute()) for folder in folders),
            write_reference=str(write_reference.absolute()) if write_reference else "",
            dtype=name_of(dtype) if dtype else "",
            on_cpu=on_cpu,
            remote_code=trust.remote_code,
            pickle_weights=trust.pickle_weights,
        )

    @property
    def trust(self) -> Trust:
        return Trust(remote_code=self.remote_code, pickle_weights=self.pickle_weights)

    @property
    def torch_dtype(self) -> torch.dtype | None:
        return DTYPES[self.dtype] if self.dtype else None

    @property
    def compared_with(self) -> Reference | None:
        return Reference(*map(Path, self.reference)) if self.reference else None

    @property
    def kept_in(self) -> Path | None:
        return Path(self.write_reference) if self.write_reference else None


def name_of(dtype: torch.dtype) -> str:
    """``float32`` and the like."""
    return str(dtype).removeprefix("torch.")


def as_facts(model: Path, job: Job) -> dict[str, Any]:
    """The model's folder and the job, in words that JSON has."""
    return {"model": str(model.absolute()), "job": dataclasses.asdict(job)}


def read_job(facts: dict[str, Any]) -> tuple[Path, Job]:
    """What :func:`as_facts` took."""
    return Path(facts["model"]), Job(**facts["job"])


def write_windows(scratch: Path, windows_NL: Tensor) -> None:
    """The windows that the ranks share."""
    from safetensors.torch import save_file

    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / _FIGURES).unlink(missing_ok=True)
    save_file({"windows": windows_NL.cpu().contiguous()}, scratch / _WINDOWS)


def read_windows(scratch: Path) -> Tensor:
    """All windows."""
    from safetensors.torch import load_file

    return load_file(scratch / _WINDOWS)["windows"]


def write_figures(scratch: Path, parts: list[tuple[int, WindowFigures]]) -> None:
    """All ranks' figures, each with the number of its first window, as those of all windows."""
    from safetensors.torch import save_file

    figures = [part for _, part in sorted(parts, key=lambda entry: entry[0])]
    tensors = {
        name: torch.cat([getattr(part, name) for part in figures])
        for name in ("nll_N", "divergence_N", "agreed_N")
        if getattr(figures[0], name) is not None
    }
    tensors["seconds"] = torch.tensor([part.seconds for part in figures], dtype=torch.float64)
    save_file(tensors, scratch / _FIGURES)


def read_figures(scratch: Path) -> WindowFigures:
    """The figures of all windows; the seconds are those of the slowest rank."""
    from safetensors.torch import load_file

    tensors = load_file(scratch / _FIGURES)
    return WindowFigures(
        tensors["nll_N"],
        tensors.get("divergence_N"),
        tensors.get("agreed_N"),
        float(tensors["seconds"].max()),
    )
