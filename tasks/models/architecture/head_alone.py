"""Loads a model's LM head and not its blocks: the same model, configured to have none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from configs.trust import Trust
from tasks.models.architecture.head import Head, split_head
from tasks.models.load import load_config
from tasks.models.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_head_alone(
    folder: Path, dtype: torch.dtype, device: torch.device, trust: Trust
) -> Head | None:
    """The head of the model in ``folder``, or None where its architecture cannot be so loaded.

    Whether it is the whole model's head is for the caller to check: the blocks are not there.
    """
    try:
        model = _without_blocks(folder, dtype, trust)
        halves = split_head(model) if model else None
    except Exception:  # noqa: BLE001 (any architecture may mind having no blocks in its own way)
        return None
    if model is None or halves is None:
        return None
    _move_(model, device)
    return halves[1]


def _without_blocks(folder: Path, dtype: torch.dtype, trust: Trust) -> PreTrainedModel | None:
    from transformers import AutoModelForCausalLM

    config = load_config(folder, trust)
    text: Any = config.get_text_config(decoder=True)
    text.num_hidden_layers = 0
    if getattr(text, "layer_types", None):
        text.layer_types = []
    with quiet():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=trust.remote_code,
            use_safetensors=None if trust.pickle_weights else True,
            output_loading_info=True,
        )
    model, info = loaded
    if info["missing_keys"]:
        return None
    return model.eval().requires_grad_(False)


def _move_(model: PreTrainedModel, device: torch.device) -> None:
    """To ``device``, without the embeddings where the head has weights of its own."""
    embeddings: Any = model.get_input_embeddings()
    output: Any = model.get_output_embeddings()
    if output is not None and output.weight is not embeddings.weight:
        embeddings.to("meta")
    for tensor in (*model.parameters(), *model.buffers()):
        if not tensor.is_meta:
            tensor.data = tensor.data.to(device)
