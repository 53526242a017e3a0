"""What a model weighs: counted weights, bytes on disk, bytes that 2:4 would save."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tasks.models.architecture.decoder import describe
from tasks.models.saved.branches import branch_tensors
from tasks.models.saved.semi_structured import DTYPES, is_two_of_four
from tasks.pruning.core.layers import LinearLayer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "*.gguf")


def weight_counts(model: PreTrainedModel) -> tuple[int, int | None]:
    """(parameters, those that are not zero), side branches included, tied weights once.

    The second is None where a part of the model is on disk and not in memory.
    """
    weights = [*model.parameters(), *branch_tensors(model)]
    parameters = sum(weight.numel() for weight in weights)
    if any(weight.is_meta for weight in weights):
        return parameters - _untied_on_disk(model), None
    return parameters, sum(int(_plain(weight).count_nonzero()) for weight in weights)


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


def _untied_on_disk(model: PreTrainedModel) -> int:
    """Weights of an LM head that Accelerate parted from the embeddings that it is tied to."""
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    tied = getattr(model.config.get_text_config(decoder=True), "tie_word_embeddings", False)
    if not tied or head is None or head.weight is embeddings.weight:
        return 0
    assert isinstance(head.weight, Tensor)
    return head.weight.numel()


def _plain(weight: Tensor) -> Tensor:
    """The weight with its zeros, where it is packed."""
    return weight.to_dense() if _is_packed(weight) else weight


def _packs(layer: LinearLayer) -> bool:
    if layer.stored.dtype not in DTYPES or layer.stored.is_meta:
        return False
    return _is_packed(layer.stored) or is_two_of_four(layer.weight_OI)


def _is_packed(weight: Tensor) -> bool:
    return isinstance(weight, torch.sparse.SparseSemiStructuredTensor)
