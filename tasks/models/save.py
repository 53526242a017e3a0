"""Writes a pruned model as a folder that stock ``from_pretrained`` loads.

Only one model is ever in memory: the dense one, whose replaced weights are exchanged while its
state is written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasks.models.checkpoints import CONFIG, GENERATION, TOKENIZER_FILES
from tasks.models.files import share
from tasks.models.quiet import quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel

METADATA = "secateur.json"
_SHARD_SIZE = "5GB"


def save_checkpoint(
    dense: PreTrainedModel,
    source_folder: Path,
    replaced: Mapping[str, Tensor],
    out: Path,
    *,
    dtype: torch.dtype,
    metadata: Mapping[str, Any],
) -> None:
    """Write ``dense`` with some weights replaced.

    Args:
        dense: supplies the configuration and all other weights; it is left as it was.
        source_folder: where tokenizer files and generation configuration are copied from.
        replaced: state-dict name → weight of the same shape.
        out: the folder to write; it may exist.
        dtype: of the saved floating-point weights. Those that the architecture keeps in another
            dtype than the model's stay in theirs.
        metadata: what made this model; written to ``secateur.json``.

    Raises:
        ValueError: a replaced weight does not exist, has another shape, or is tied to another.
    """
    state = _state(dense, replaced, dtype)
    config = dense.config
    before = (config.dtype, config.architectures, dense.generation_config)
    try:
        with quiet():
            # The source's own file is copied below; saving one that only warns would be refused.
            if dense.generation_config is not None:
                dense.generation_config = type(dense.generation_config)()
            dense.save_pretrained(out, state_dict=state, max_shard_size=_SHARD_SIZE)
    finally:
        config.dtype, config.architectures, dense.generation_config = before
    _set_dtype(out / CONFIG, dtype)
    share(*out.glob("*.safetensors"))
    (out / GENERATION).unlink(missing_ok=True)
    _copy(source_folder, out, (*TOKENIZER_FILES, GENERATION))
    text = json.dumps(dict(metadata), indent=2, sort_keys=True, allow_nan=False)
    (out / METADATA).write_text(text + "\n", encoding="utf-8")


def _state(
    dense: PreTrainedModel, replaced: Mapping[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    state = dict(dense.state_dict())
    for name, weight in replaced.items():
        if name not in state:
            raise ValueError(f"{name} is replaced and {type(dense).__name__} has no such weight")
        if weight.shape != state[name].shape:
            shapes = f"{tuple(state[name].shape)}, its replacement {tuple(weight.shape)}"
            raise ValueError(f"{name} has shape {shapes}")
    shared = _shared(state)
    if tied := sorted(shared & replaced.keys()):
        raise ValueError(
            f"{', '.join(tied)} is tied to another weight: it cannot be replaced alone"
        )
    cast_ties: dict[tuple[Any, ...], Tensor] = {}
    for name, weight in state.items():
        if name in replaced:
            state[name] = replaced[name].to(dtype)
        elif weight.dtype != dense.dtype or weight.dtype == dtype:
            continue
        elif name in shared:  # one cast for all names, so that they stay tied
            key = (weight.data_ptr(), weight.shape, weight.stride())
            state[name] = cast_ties.setdefault(key, weight.to(dtype))
        else:
            state[name] = weight.to(dtype)
    return state


def _shared(state: Mapping[str, Tensor]) -> set[str]:
    """Names of tied weights: those that begin at the same address as another."""
    by_address: dict[tuple[torch.device, int], list[str]] = {}
    for name, weight in state.items():
        if weight.numel():
            by_address.setdefault((weight.device, weight.data_ptr()), []).append(name)
    return {name for names in by_address.values() if len(names) > 1 for name in names}


def _set_dtype(path: Path, dtype: torch.dtype) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    name = str(dtype).removeprefix("torch.")
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            part["dtype"] = name
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _copy(source: Path, out: Path, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        for path in source.glob(pattern):
            shutil.copyfile(path, out / path.name)
