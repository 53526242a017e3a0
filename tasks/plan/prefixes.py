"""Whether a model's tokenizer puts tokens such as BOS before every text, told while planning.

Names of checkpoints depend on it, so the answer for a model must always be the same.
"""

from __future__ import annotations

from pathlib import Path

from configs.trust import Trust
from tasks.data.windows import prefix_tokens
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import load_tokenizer
from tasks.models.prepare import is_without_bos, read_tokenizer
from tasks.models.sources.sources import ResolvedModel


def may_prefix(model: ResolvedModel, trust: Trust) -> bool:
    """False where the tokenizer is known to put nothing there.

    A hub's model may not be here yet: it may, always.
    """
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
