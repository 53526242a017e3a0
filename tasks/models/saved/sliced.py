"""A folder that holds the sliced weights themselves: small on disk, loaded by ``load_pruned`` only.

``config.json`` names a model type of its own and the weight files carry ``sliced`` in their names,
so that stock ``from_pretrained`` refuses the folder instead of filling what does not fit with
random numbers. ``secateur.json`` says what each block keeps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import require_complete
from tasks.models.quiet import quiet
from tasks.models.saved.compact import compact_, compact_weights
from tasks.models.saved.kept import kept_to_json
from tasks.models.saved.save import replaced_state, write_folder
from tasks.models.sources.checkpoints import CONFIG
from tasks.pruning.core.structure import Kept

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FORM, SLICED = "form", "sliced"
_MODEL_TYPE = "secateur_sliced"
# Flat, because transformers takes a nested entry with a model type for a configuration of its own.
_STOCK_TYPE, _STOCK_CLASS = "stock_model_type", "stock_architecture"


def save_compact(
    model: PreTrainedModel,
    kept: Sequence[Kept],
    source_folder: Path,
    out: Path,
    *,
    dtype: torch.dtype,
    metadata: Mapping[str, Any],
) -> None:
    """Write only what the blocks of ``model`` keep.

    Args:
        model: of full size, dense or masked; it is left as it was. The sliced matrices are in
            memory beside it until they are written.
        kept: of each block, what is written.
        source_folder: where tokenizer files and generation configuration are copied from.
        out: the folder to write; it may exist.
        dtype: of the saved floating-point weights.
        metadata: what made this model; written to ``secateur.json`` with ``kept`` and ``form``.

    Raises:
        UnsupportedModelError: an architecture whose heads and channels are not understood, one
            that is not transformers' own, or ``kept`` of another model.
    """
    _class_of(type(model).__name__, expected=type(model))
    cut = compact_weights(describe(model), kept)
    write_folder(
        model,
        replaced_state(model, {}, dtype) | {name: part.to(dtype) for name, part in cut.items()},
        source_folder,
        out,
        dtype=dtype,
        metadata={**metadata, "kept": kept_to_json(kept), FORM: SLICED},
        variant=SLICED,
    )
    settings = json.loads((out / CONFIG).read_text(encoding="utf-8"))
    settings |= {_STOCK_TYPE: settings["model_type"], _STOCK_CLASS: type(model).__name__}
    settings |= {"model_type": _MODEL_TYPE, "architectures": ["SecateurSliced"]}
    text = json.dumps(settings, indent=2, sort_keys=True)
    (out / CONFIG).write_text(text + "\n", encoding="utf-8")


def load_compact(folder: Path, kept: Sequence[Kept], dtype: torch.dtype | None) -> PreTrainedModel:
    """The model that :func:`save_compact` wrote; the full-size one is never in memory.

    Raises:
        UnsupportedModelError: the folder is damaged, or its parts do not fit each other.
    """
    settings, stock = _settings(folder)

    def cut_down(self: PreTrainedModel, config: Any, *args: Any, **keywords: Any) -> None:
        stock.__init__(self, config, *args, **keywords)
        compact_(self, kept)

    # transformers builds it without memory, cuts it down and then loads into what is left.
    smaller: Any = type(stock.__name__, (stock,), {"__init__": cut_down})
    assert stock.config_class is not None
    with quiet():
        try:
            model, info = smaller.from_pretrained(
                folder,
                config=stock.config_class.from_dict(settings),
                dtype=dtype or "auto",
                variant=SLICED,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
        except UnsupportedModelError:
            raise
        except Exception as error:  # safetensors' own errors have no narrower class
            reason = (
                f"{folder.name} does not hold the sliced {stock.__name__} that it says: {error}"
            )
            raise UnsupportedModelError(reason) from error
    require_complete(info, folder.name)
    # The subclass differs in how it is built only; others look models up by their class.
    model.__class__ = stock
    return model


def _settings(folder: Path) -> tuple[dict[str, Any], type[PreTrainedModel]]:
    """The stock model's configuration and class."""
    try:
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        name = str(settings.pop(_STOCK_CLASS))
        replaced = {"model_type": settings.pop(_STOCK_TYPE), "architectures": [name]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{folder.name}: {CONFIG} is not that of a sliced model: {error!r}"
        raise UnsupportedModelError(reason) from error
    return settings | replaced, _class_of(name)


def _class_of(name: str, expected: type | None = None) -> type[PreTrainedModel]:
    """transformers' causal language model of this name."""
    import transformers

    found = getattr(transformers, name, None)
    if (
        not isinstance(found, type)
        or not issubclass(found, transformers.PreTrainedModel)
        or found is not (expected or found)
    ):
        raise UnsupportedModelError(
            f"{name} is not a model of transformers itself, and only those load sliced"
        )
    return found
