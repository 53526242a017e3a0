"""What the names of tensors say of the tool that wrote them in place of a plain model."""

from __future__ import annotations

import re
from collections.abc import Iterable

_MARKS = (
    (
        re.compile(r"(^|\.)base_model\.model\.|\.lora_[AB]\."),
        "peft wrote them, of a model with an adapter (LoRA) that is not merged",
        "Merge it first (peft: merge_and_unload, then save_pretrained)",
    ),
    (
        re.compile(r"(^|\.)_orig_mod\."),
        "a model that torch.compile had wrapped wrote them",
        "Save the model inside of it (model._orig_mod.save_pretrained), or take the prefix off",
    ),
    (
        re.compile(r"^module\."),
        "a model that DistributedDataParallel had wrapped wrote them",
        "Save the model inside of it (model.module.save_pretrained), or take the prefix off",
    ),
    (
        re.compile(
            r"\.(qweight|qzeros|g_idx|weight_(scale|scale_inv|scale_2|packed|zero_point)|input_scale)$"
            r"|\.experts\.\w+_(blocks|scales)$|\.weight\.(absmax|quant_map|quant_state)"
        ),
        "they are of quantised weights (GPTQ, AWQ, FP8, MXFP4, …), whatever config.json says",
        "Prune the original, unquantised weights",
    ),
)


def foreign(names: Iterable[str]) -> str:
    """Why tensors are no plain model's, and what to do; empty where their names tell nothing.

    Args:
        names: of tensors that the model did not read.
    """
    names = sorted(names)
    for mark, what, step in _MARKS:
        if found := [name for name in names if mark.search(name)]:
            return f"its files hold {len(found)} tensors such as {found[0]}: {what}. {step}"
    return ""
