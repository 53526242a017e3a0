"""Spreads a model that is too large for one device over all GPUs, memory and disk.

Accelerate decides what lies where and moves weights in as a forward pass reaches them; those on
disk stay in the checkpoint's own files. The figures are those of the model in one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import auto_class, load_config, require_complete
from tasks.models.quiet import quiet
from tasks.models.saved.branches import branch_tensors
from tasks.models.saved.compact import Cut
from tasks.models.saved.pruned import BRANCHES, read_metadata
from tasks.models.saved.sliced import FORM

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SIZE = "a size is a number of bytes with a unit, such as 20GiB or 500MB"


def load_placed(
    folder: Path,
    dtype: torch.dtype | None,
    trust: Trust,
    *,
    max_memory: Mapping[str, str],
    scratch: Path,
) -> PreTrainedModel:
    """The model of ``folder``, for inference, wherever there is room.

    A checkpoint with removed heads and channels loads in its full size, in which they are zero.

    Args:
        dtype: of the weights; the saved ones' when not given.
        max_memory: as ``evaluation.max_memory`` says it; empty: all that there is.
        scratch: a folder for weights that must be written anew to lie on disk.

    Raises:
        ConfigurationError: ``max_memory`` names a device that is not here, or no size.
        UnsupportedModelError: a checkpoint that only ``load_pruned`` can load: of sliced weights,
            or with low-rank side branches.
    """
    limits = parse_max_memory(max_memory)
    if FORM in read_metadata(folder):
        raise UnsupportedModelError(
            f"{folder}: a folder of sliced weights cannot be spread with device_map auto; "
            "a full-size checkpoint can, and so can device_map none with this one"
        )
    if (folder / BRANCHES).is_file():
        raise UnsupportedModelError(
            f"{folder}: a model with low-rank side branches cannot be spread with device_map auto; "
            "use device_map none"
        )
    with quiet():
        try:
            loaded: Any = auto_class(load_config(folder, trust)).from_pretrained(
                folder,
                dtype=dtype or load_config(folder, trust).dtype or torch.float32,
                device_map="auto",
                max_memory=limits or None,
                offload_folder=scratch / "offload",
                local_files_only=True,
                trust_remote_code=trust.remote_code,
                use_safetensors=None if trust.pickle_weights else True,
                output_loading_info=True,
            )
        except (ValueError, KeyError, ImportError) as error:
            reason = f"transformers cannot spread {folder.name}: {error}"
            raise UnsupportedModelError(reason) from error
    model, info = loaded
    require_complete(info, folder.name)
    return model.eval().requires_grad_(False)


def parse_max_memory(max_memory: Mapping[str, str]) -> dict[int | str, int]:
    """Device → bytes, as Accelerate takes it.

    Raises:
        ConfigurationError: a device that is not here, or no size.
    """
    from accelerate.utils import convert_file_size_to_int

    gpus = [str(index) for index in range(torch.cuda.device_count())]
    allowed = [*gpus, "cpu"]
    limits: dict[int | str, int] = {}
    for device, size in max_memory.items():
        field = f"evaluation.max_memory.{device}"
        if device not in allowed:
            raise ConfigurationError(field, size, f"the devices here are {', '.join(allowed)}")
        try:
            limit = convert_file_size_to_int(size)
        except (ValueError, AttributeError):
            raise ConfigurationError(field, size, _SIZE) from None
        limits[int(device) if device in gpus else device] = limit
    return limits


def added(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """(weights, those that are not zero) of several together."""
    total, nonzero = map(sum, zip(*counts, strict=True))
    return total, nonzero


def counts_by_name(
    model: nn.Module, cuts: Mapping[str, Cut] = MappingProxyType({})
) -> dict[str, tuple[int, int]]:
    """Name → (weights, those that are not zero), each shared one once, side branches too.

    Weights that lie on disk are read from there, a layer at a time.

    Args:
        cuts: what to count of parameters of which heads and channels were removed, by name.
    """
    from accelerate.utils import align_module_device

    found = {f"branch {n}": _count(tensor) for n, tensor in enumerate(branch_tensors(model))}
    # What lies on disk is no longer one tensor with what it is tied to.
    spread = getattr(model, "hf_device_map", None)
    tied = set(getattr(model, "all_tied_weights_keys", ())) if spread else set()
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        names = {
            name: full
            for name, parameter in module.named_parameters(recurse=False)
            if id(parameter) not in seen
            and (full := ".".join(filter(None, (prefix, name)))) not in tied
        }
        seen.update(id(module.get_parameter(name)) for name in names)
        with align_module_device(module):
            for name, full in names.items():
                tensor = module.get_parameter(name)
                found[full] = _count(cuts[full].of(tensor) if full in cuts else tensor)
    return found


def _count(tensor: Tensor) -> tuple[int, int]:
    return tensor.numel(), int(tensor.detach().count_nonzero())
