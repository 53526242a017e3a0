"""SLoRB's side branches of a saved model: y += (x Xᵀ)Sᵀ beside a linear layer.

The weights alone are a plain ``keep:group`` checkpoint that any loader reads; the branches lie
beside them in ``slorb.safetensors``, two tensors a layer, ``<layer>.slorb_x`` (X, ``R × I``) and
``<layer>.slorb_s`` (S, ``O × R``). With both, as training saw it::

    model = AutoModelForCausalLM.from_pretrained(folder)
    attach_branches(model, folder)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from tasks.pruning.ast.slorb import SCALE, SUM

FILE = "slorb.safetensors"
_HANDLE = "_slorb_handle"


def save_branches(folder: Path, branches: Mapping[str, Tensor]) -> None:
    """Write the branches of a pruning result into a checkpoint's folder."""
    from safetensors.torch import save_file

    save_file({name: t.cpu().contiguous() for name, t in branches.items()}, folder / FILE)


def attach_branches(model: nn.Module, folder: Path) -> int:
    """Give the layers of ``model`` their branches from ``folder``; where it has none, nothing.

    Works with ``generate()``. The branches are buffers that ``state_dict`` leaves out, so they
    move with the model and are not saved with it. Attaching again replaces them.

    Returns:
        How many layers have a branch now.

    Raises:
        ValueError: a branch without its other half, or of a layer that does not exist or has
            another shape.
    """
    from safetensors.torch import load_file

    detach_branches(model)
    path = folder / FILE
    if not path.exists():
        return 0
    tensors = load_file(path)
    layers = {name.rpartition(".")[0] for name in tensors}
    modules = dict(model.named_modules())
    try:
        for layer in sorted(layers):
            parts = (tensors.get(f"{layer}.{part}") for part in (SUM, SCALE))
            _attach(layer, modules.get(layer), *parts)
    except ValueError:
        detach_branches(model)  # all or none
        raise
    return len(layers)


def detach_branches(model: nn.Module) -> None:
    """Take all branches away again."""
    for module in model.modules():
        if (handle := module.__dict__.pop(_HANDLE, None)) is not None:
            handle.remove()
            del module._buffers[SUM], module._buffers[SCALE]


def branch_tensors(model: nn.Module) -> list[Tensor]:
    """The matrices of all attached branches, which ``parameters()`` leaves out."""
    return [tensor for name, tensor in model.named_buffers() if name.endswith((SUM, SCALE))]


def _attach(
    name: str, module: nn.Module | None, sum_RI: Tensor | None, scale_OR: Tensor | None
) -> None:
    if module is None or sum_RI is None or scale_OR is None:
        raise ValueError(f"{FILE}: {name} is no layer of this model, or lacks a half")
    weight = module.weight
    assert isinstance(weight, Tensor)
    # GPT-2's Conv1D stores its weight transposed.
    shape = tuple(weight.shape if isinstance(module, nn.Linear) else weight.T.shape)
    if (scale_OR.shape[0], sum_RI.shape[1]) != shape or scale_OR.shape[1] != sum_RI.shape[0]:
        shapes = f"{tuple(scale_OR.shape)}·{tuple(sum_RI.shape)}"
        raise ValueError(f"{name}: a branch {shapes} does not fit a layer of {shape}")
    module.register_buffer(SUM, sum_RI.to(weight), persistent=False)
    module.register_buffer(SCALE, scale_OR.to(weight), persistent=False)

    def add_branch(layer: Any, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        low = functional.linear(arguments[0], getattr(layer, SUM))
        return output + functional.linear(low, getattr(layer, SCALE))

    module.__dict__[_HANDLE] = module.register_forward_hook(add_branch)
