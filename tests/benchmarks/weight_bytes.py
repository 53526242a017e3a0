"""What a model weighs: bytes on disk, and bytes with its 2:4 layers packed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from tasks.models.architecture.decoder import describe
from tasks.models.saved.branches import branch_tensors
from tasks.models.saved.semi_structured import DTYPES, is_two_of_four
from tasks.pruning.core.layers import LinearLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.gguf")


def bytes_on_disk(folder: Path) -> int:
    """Of the weight files of a checkpoint's folder, side branches included.

    Raises:
        FileNotFoundError: when it holds no weight file.
    """
    files = {path for pattern in _WEIGHTS for path in folder.glob(pattern) if path.is_file()}
    if not files:
        raise FileNotFoundError(f"{folder} holds no weight files ({', '.join(_WEIGHTS)})")
    return sum(path.stat().st_size for path in files)


def packed_bytes(model: PreTrainedModel) -> int | None:
    """What the weights take with each 2:4 layer packed for NVIDIA's sparse tensor cores.

    Of every 4 weights 2 are stored, with 2 bits each that say which: a layer of ``n`` weights of
    ``s`` bytes takes ``n·s/2 + n/8`` bytes in place of ``n·s``, which is 9/16 in 16 bits. Layers
    of another dtype, which those tensor cores do not take as 2:4, and all other weights count in
    full, tied ones once. So much a GPU holds after ``semi_structured.convert_``, but for what
    cuSPARSELt pads; no file is written in this form.

    Returns:
        None when no layer can be packed, or a part of the model is not in memory.
    """
    weights = {id(weight): weight for weight in (*model.parameters(), *branch_tensors(model))}
    total = sum(weight.numel() * weight.element_size() for weight in weights.values())
    packed = [layer.stored for layer in describe(model).layers().values() if _packs(layer)]
    if not packed or any(weight.is_meta for weight in weights.values()):
        return None
    return total - sum(
        weight.numel() * weight.element_size() // 2 - weight.numel() // 8 for weight in packed
    )


def _packs(layer: LinearLayer) -> bool:
    if layer.stored.dtype not in DTYPES or layer.stored.is_meta:
        return False
    packed = isinstance(layer.stored, torch.sparse.SparseSemiStructuredTensor)
    return packed or is_two_of_four(layer.weight_OI)
