"""Writes a pruned model as a folder that stock ``from_pretrained`` loads.

Only one model is ever in memory: the dense one, whose replaced weights are exchanged while its
state is written.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasks.models.files import share
from tasks.models.quiet import quiet
from tasks.models.saved.source_side import (
    carry_over,
    copy_config,
    copy_input_side,
    name_as_source,
)
from tasks.models.sources.checkpoints import CONFIG, GENERATION

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
    unread: Collection[str] = (),
) -> None:
    """Write ``dense`` with some weights replaced; all else is as in the source.

    Args:
        dense: supplies the configuration and all other weights; it is left as it was.
        source_folder: where configuration and input side are copied from.
        replaced: state-dict name → weight of the same shape.
        out: the folder to write; it may exist.
        dtype: of the saved floating-point weights. Those that the architecture keeps in another
            dtype than the model's stay in theirs.
        metadata: what made this model; written to ``secateur.json``.
        unread: tensors of the source's files that ``dense`` does not read; they are carried over.

    Raises:
        ValueError: a replaced weight does not exist, has another shape, or is tied to another that
            is replaced by other values.
    """
    write_folder(
        dense,
        replaced_state(dense, replaced, dtype),
        source_folder,
        out,
        dtype=dtype,
        metadata=metadata,
    )
    name_as_source(source_folder, dense.base_model_prefix, out)
    carry_over(source_folder, unread, out)


def write_folder(
    dense: PreTrainedModel,
    state: dict[str, Tensor],
    source_folder: Path,
    out: Path,
    *,
    dtype: torch.dtype,
    metadata: Mapping[str, Any],
    variant: str | None = None,
) -> None:
    """Write ``state``, ``secateur.json`` and the source's configuration and input side.

    ``dense`` is left as it was.

    Args:
        variant: goes into the weight files' names, as transformers does it.
    """
    text = json.dumps(dict(metadata), indent=2, sort_keys=True, allow_nan=False)
    config = dense.config
    generation = getattr(dense, "generation_config", None)  # an encoder has none
    before = (config.dtype, config.architectures)
    own = (source_folder / CONFIG).is_file()
    try:
        with quiet():
            # It would be refused where it only warns, and lose what transformers does not know.
            if own:
                config.save_pretrained = lambda *_, **__: None
            # The source's own file is copied below; saving one that only warns would be refused.
            if generation is not None:
                dense.generation_config = type(generation)()
            dense.save_pretrained(
                out, state_dict=state, max_shard_size=_SHARD_SIZE, variant=variant
            )
    finally:
        vars(config).pop("save_pretrained", None)
        config.dtype, config.architectures = before
        if generation is not None:
            dense.generation_config = generation
    copy_config(source_folder if own else out, out, dtype)
    share(*out.glob("*.safetensors"))
    (out / GENERATION).unlink(missing_ok=True)
    copy_input_side(source_folder, out)
    (out / METADATA).write_text(text + "\n", encoding="utf-8")


def replaced_state(
    dense: PreTrainedModel, replaced: Mapping[str, Tensor], dtype: torch.dtype
) -> dict[str, Tensor]:
    """The state of ``dense`` in ``dtype`` with some weights replaced; tied weights stay tied.

    A tied weight may be replaced by any of its names; by several, with equal values.

    Raises:
        ValueError: a replaced weight does not exist, has another shape, or is tied to another that
            is replaced by other values.
    """
    state = dict(dense.state_dict())
    for name, weight in replaced.items():
        if name not in state:
            raise ValueError(f"{name} is replaced and {type(dense).__name__} has no such weight")
        if weight.shape != state[name].shape:
            shapes = f"{tuple(state[name].shape)}, its replacement {tuple(weight.shape)}"
            raise ValueError(f"{name} has shape {shapes}")
    ties = _ties(state, replaced.keys())
    tied = {name for names in ties for name in names}
    # Weights that the architecture keeps in another dtype than the model's stay in theirs.
    dtypes = {
        name: dtype if weight.dtype == dense.dtype else weight.dtype
        for name, weight in state.items()
    }
    for names in ties:
        # One tensor for all names, so that they stay tied.
        state |= dict.fromkeys(names, _tied(state, names, replaced).to(dtypes[names[0]]))
    for name in state.keys() - tied:
        state[name] = replaced.get(name, state[name]).to(dtypes[name])
    return state


def _tied(state: Mapping[str, Tensor], names: list[str], replaced: Mapping[str, Tensor]) -> Tensor:
    """The one value of a tied weight."""
    first, *others = [replaced[name] for name in names if name in replaced] or [state[names[0]]]
    if any(not torch.equal(first, other) for other in others):
        raise ValueError(
            f"{' and '.join(names)} are one tied weight, and their replacements differ"
        )
    return first


def _ties(state: Mapping[str, Tensor], replaced: Set[str]) -> list[list[str]]:
    """Names of tied weights: those that are the same view of the same memory."""
    views: dict[tuple[Any, ...], list[str]] = {}
    by_address: dict[tuple[Any, ...], set[tuple[Any, ...]]] = {}
    for name, weight in state.items():
        if weight.numel():
            address = (weight.device, weight.data_ptr())
            view = (*address, weight.dtype, weight.shape, weight.stride())
            views.setdefault(view, []).append(name)
            by_address.setdefault(address, set()).add(view)
    for same in by_address.values():
        names = sorted(name for view in same for name in views[view])
        if len(same) > 1 and not replaced.isdisjoint(names):
            raise ValueError(
                f"{', '.join(names)} are different views of one weight: they cannot be replaced"
            )
    return [names for names in views.values() if len(names) > 1]
