"""What names of checkpoints depend on beside a model's digest, told while planning.

Checkpoints keep their name where a correction does not reach the model: so what is told here of a
model must always be the same, and what is not known for sure is taken to be so. A hub's model may
not be here yet: nothing is known of it.
"""

from __future__ import annotations

from pathlib import Path

from configs.trust import Trust
from tasks.data.windows import prefix_tokens
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import load_config, load_tokenizer
from tasks.models.prepare import is_without_bos, read_tokenizer
from tasks.models.sources.gguf_header import check_complete
from tasks.models.sources.sources import ResolvedModel

_ADD_ATTENTION = {"llama", "mistral", "qwen2", "qwen3", "gemma", "phi", "starcoder2", "opt"}
"""Types of models whose blocks add attention's output as it is, as transformers and GGUF call
them."""


def may_prefix(model: ResolvedModel, trust: Trust) -> bool:
    """False where the tokenizer is known to put nothing before a text, such as BOS."""
    if model.kind == "gguf":
        return not is_without_bos(model)
    if model.kind == "random":
        return bool(prefix_tokens(read_tokenizer(model)))
    if model.kind == "hub":
        return True
    try:
        return bool(prefix_tokens(load_tokenizer(Path(model.path), trust)))
    except UnsupportedModelError:  # told where it is used
        return True


def may_rescale(model: ResolvedModel, trust: Trust) -> bool:
    """False where blocks are known neither to norm nor to multiply what attention gives."""
    if model.kind == "random":
        return False
    if model.kind == "hub" or trust.remote_code:
        return True
    if model.kind == "gguf":
        return (
            check_complete(Path(model.path)).metadata.get("general.architecture")
            not in _ADD_ATTENTION
        )
    try:
        return load_config(Path(model.path), trust).model_type not in _ADD_ATTENTION
    except UnsupportedModelError:  # told where it is used
        return True
