"""What the launcher and its workers hand each other: the job, the start, and the result.

Tensors in safetensors, the rest in JSON; files lie in the scratch folder of one run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from tasks.models.quiet import quiet
from tasks.pruning.core.methods import PruneResult

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MODEL = "model"
_WINDOWS = "windows.safetensors"
_NAME, _COUNTED = "windows", "counted"
_RESULT, _WEIGHTS, _BRANCHES = "result.json", "weights.safetensors", "branches.safetensors"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker must know beside the model and the windows.

    Attributes:
        method, options, target: as a sweep file says them.
        exclude: patterns of layers that stay as they are.
        dtype: of the model, as ``float32``.
        on_cpu: else each rank takes the GPU of its number.
        remote_code: whether the model's own code may run, as it did in the parent.
    """

    method: str
    options: Mapping[str, Any]
    target: str
    seed: int
    exclude: Sequence[str]
    dtype: str
    on_cpu: bool
    remote_code: bool
    checkpoint_seconds: float


def write_start(
    folder: Path, model: PreTrainedModel, training_NL: Tensor, counted_NL: Tensor | None
) -> None:
    """The model and the windows that the workers start from, and which tokens count."""
    from safetensors.torch import save_file

    generation = getattr(model, "generation_config", None)  # an encoder has none
    try:
        with quiet():
            # It plays no part in training, and saving one that only warns would be refused.
            if generation is not None:
                model.generation_config = type(generation)()
            model.save_pretrained(folder / MODEL)
    finally:
        if generation is not None:
            model.generation_config = generation
    tensors = {_NAME: training_NL.cpu().contiguous()}
    if counted_NL is not None:
        tensors[_COUNTED] = counted_NL.cpu().contiguous()
    save_file(tensors, folder / _WINDOWS)


def read_windows(folder: Path) -> tuple[Tensor, Tensor | None]:
    """The training windows, and which of their tokens count; None: all."""
    from safetensors.torch import load_file

    tensors = load_file(folder / _WINDOWS)
    return tensors[_NAME], tensors.get(_COUNTED)


def write_result(folder: Path, result: PruneResult) -> None:
    """A result; weights under several names are written once and stay one."""
    from safetensors.torch import save_file

    first: dict[int, str] = {}
    names = {name: first.setdefault(id(weight), name) for name, weight in result.weights.items()}
    save_file({name: result.weights[name].cpu() for name in first.values()}, folder / _WEIGHTS)
    branches = {name: branch.cpu() for name, branch in result.branches.items()}
    save_file(branches, folder / _BRANCHES)
    facts = {"names": names, "figures": result.figures, "history": list(result.history)}
    (folder / _RESULT).write_text(json.dumps(facts), encoding="utf-8")


def read_result(folder: Path) -> PruneResult:
    """What :func:`write_result` wrote."""
    from safetensors.torch import load_file

    facts = json.loads((folder / _RESULT).read_text(encoding="utf-8"))
    weights = load_file(folder / _WEIGHTS)
    return PruneResult(
        weights={name: weights[first] for name, first in facts["names"].items()},
        figures=facts["figures"],
        history=tuple(facts["history"]),
        branches=load_file(folder / _BRANCHES),
    )
