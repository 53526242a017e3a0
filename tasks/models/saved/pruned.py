"""Loads what secateur saved: physically smaller where heads and channels were removed.

    from tasks.models.saved.pruned import load_pruned
    model = load_pruned("outputs/…/checkpoint")

A pruned checkpoint is a full-size model whose removed weights are zero, which stock
``from_pretrained`` loads. Its ``secateur.json`` says what each block keeps (``kept``); loaded by
this call the rest is cut out, and the logits are the same. A folder of ``save_compact`` holds the
small matrices only and loads by the same call.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from configs.trust import Trust
from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import load_config, load_model
from tasks.models.saved.compact import compact_, require_removed
from tasks.models.saved.kept import kept_of_json
from tasks.models.saved.save import METADATA
from tasks.models.saved.sliced import FORM, SLICED, load_compact
from tasks.store.manifest import MANIFEST, read_whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tasks.pruning.core.structure import Kept

BRANCHES = "slorb.safetensors"


def load_pruned(
    folder: Path | str,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    trust: Trust | None = None,
    *,
    sliced: bool = True,
) -> PreTrainedModel:
    """The model of ``folder``, for inference: eval mode, no gradients.

    Args:
        dtype: of the loaded weights; the saved ones' when not given.
        device: where it goes; the CPU when not given.
        sliced: cut out what was removed. Without it, or where no heads and channels were removed,
            the full-size model. Low-rank side branches are attached in either case.

    Raises:
        UnsupportedModelError: the folder is damaged; or ``sliced=False`` for one that holds the
            sliced weights only.
    """
    folder, trust = Path(folder), trust or Trust()
    device = device or torch.device("cpu")
    metadata = read_metadata(folder)
    try:
        if (folder / MANIFEST).is_file():  # as the store has it, and not copied out of it
            read_whole(folder)
        kept = kept_of_json(metadata["kept"]) if "kept" in metadata else None
        model = _load(folder, metadata.get(FORM), kept, dtype, device, trust, sliced)
        if (folder / BRANCHES).is_file():
            from tasks.models.saved.branches import attach_branches

            attach_branches(model, folder)
    except ValueError as error:  # UnsupportedModelError is one
        raise UnsupportedModelError(f"{folder}: {error}") from error
    return model


def read_metadata(folder: Path) -> dict[str, Any]:
    """What ``secateur.json`` says; empty where there is none.

    Raises:
        UnsupportedModelError: it is damaged.
    """
    try:
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UnsupportedModelError(f"{folder}: {METADATA} cannot be read: {error}") from error
    if not isinstance(metadata, dict):
        raise UnsupportedModelError(f"{folder}: {METADATA} must hold a JSON object")
    return metadata


def _load(
    folder: Path,
    form: Any,
    kept: tuple[Kept, ...] | None,
    dtype: torch.dtype | None,
    device: torch.device,
    trust: Trust,
    sliced: bool,
) -> PreTrainedModel:
    if form == SLICED:
        if kept is None:
            raise UnsupportedModelError(f"{METADATA} does not say what the blocks keep")
        if not sliced:
            raise UnsupportedModelError("it holds the sliced weights only, not the full-size model")
        return load_compact(folder, kept, dtype).to(device).eval().requires_grad_(False)  # type: ignore[arg-type]
    if form is not None:
        raise UnsupportedModelError(f"{METADATA} has form {form!r}, and {SLICED} is the one known")
    model = load_model(folder, dtype or _saved_dtype(folder, trust), device, trust)
    if kept is not None and sliced:
        require_removed(describe(model), kept)
        compact_(model, kept)
    return model


def _saved_dtype(folder: Path, trust: Trust) -> torch.dtype:
    dtype = load_config(folder, trust).dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32
