"""2:4 weights on NVIDIA's sparse tensor cores, through PyTorch's semi-structured tensors.

``convert_`` replaces the weights of linear layers that are 2:4 by packed ones, which compute the
same product; the model is for inference afterwards and cannot be saved. It needs a GPU of compute
capability 8.0 or more and float16 or bfloat16 (in float32 the hardware takes 1 of 2, which a 2:4
mask is not). cuSPARSELt where this PyTorch has it, else CUTLASS, which PyTorch builds for
capability 8.x only.

On a CPU there are no such kernels: masked weights are not faster there.

Its test on a GPU passed on an H100 (``tests/benchmarks/gpu.md``); how fast a whole model decodes
with these kernels was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from tasks.models.architecture.decoder import describe
from tasks.pruning.core.layers import LinearLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DTYPES = (torch.float16, torch.bfloat16)
ON_CPU = "on a CPU masked weights are not faster: a zero is multiplied like any other weight"
# Rows and columns must be multiples of these: PyTorch's own constraints for 16-bit weights.
MULTIPLES = {"cusparselt": (16, 16), "cutlass": (32, 64)}


@dataclass(frozen=True)
class Conversion:
    """What became of a model's linear layers.

    Attributes:
        backend: ``cusparselt``, ``cutlass``, or empty where there is none.
        converted: names of the layers that run on sparse kernels now.
        skipped: name of each other layer → why it runs as before.
        note: one sentence for people.
    """

    backend: str
    converted: tuple[str, ...]
    skipped: Mapping[str, str]
    note: str


def convert_(model: PreTrainedModel) -> Conversion:
    """Replace what can be replaced, in place; what cannot stays dense and is listed.

    Raises:
        UnsupportedModelError: a model whose decoder blocks are not found.
    """
    layers = describe(model).layers()
    backend, reason = _backend(next(model.parameters()).device)
    if not backend:
        return Conversion("", (), dict.fromkeys(layers, reason), reason)
    skipped = unsuitable(layers, backend)
    kinds: dict[str, Any] = {
        "cusparselt": torch.sparse.SparseSemiStructuredTensorCUSPARSELT,
        "cutlass": torch.sparse.SparseSemiStructuredTensorCUTLASS,
    }
    converted = tuple(name for name in layers if name not in skipped)
    for name in converted:
        packed = kinds[backend].from_dense(layers[name].stored.contiguous())
        layers[name].module.weight = nn.Parameter(packed, requires_grad=False)
    note = f"{len(converted)} of {len(layers)} linear layers run on {backend}'s 2:4 kernels"
    return Conversion(backend, converted, skipped, note)


def unsuitable(layers: Mapping[str, LinearLayer], backend: str) -> dict[str, str]:
    """Name → why a layer cannot be packed for ``backend``; the others can."""
    found = {name: _obstacle(layer, *MULTIPLES[backend]) for name, layer in layers.items()}
    return {name: reason for name, reason in found.items() if reason}


def is_two_of_four(weight_OI: Tensor) -> bool:
    """Whether of every 4 consecutive weights of a row at most 2 are not zero."""
    if weight_OI.ndim != 2 or weight_OI.shape[1] % 4 or not weight_OI.numel():
        return False
    groups = weight_OI.reshape(weight_OI.shape[0], -1, 4)
    return bool((groups.count_nonzero(dim=-1) <= 2).all())


def _obstacle(layer: LinearLayer, rows: int, columns: int) -> str:
    weight = layer.stored
    if isinstance(weight, torch.sparse.SparseSemiStructuredTensor):
        return "it is packed already"
    if not isinstance(layer.module, nn.Linear):
        return f"a {type(layer.module).__name__} multiplies by the transpose"
    if weight.dtype not in DTYPES:
        return f"its dtype is {_name(weight.dtype)}, not {' or '.join(map(_name, DTYPES))}"
    height, width = weight.shape
    if height % rows or width % columns:
        return f"{height}×{width} is no multiple of {rows}×{columns}"
    if not is_two_of_four(weight):
        return "it is not 2:4"
    return ""


def _backend(device: torch.device) -> tuple[str, str]:
    """(backend, "") or ("", why there is none)."""
    if device.type != "cuda":
        return "", ON_CPU if device.type == "cpu" else f"{device.type} has no 2:4 kernels"
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return "", f"compute capability {major}.{minor} has no 2:4 kernels; 8.0 and above do"
    if torch.backends.cusparselt.is_available():
        return "cusparselt", ""
    if major == 8:
        return "cutlass", ""
    instead = f"PyTorch's own kernels are for compute capability 8.x, not {major}.{minor}"
    return "", f"this PyTorch has no cuSPARSELt, and {instead}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
