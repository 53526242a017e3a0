"""A pruned model as an ordinary model of its family: fewer heads, narrower MLPs, no code of ours.

Where every block keeps as many heads and channels as the others, what is left is a model that the
family's own configuration describes, with its head size spelled out. Stock ``from_pretrained``,
inference servers and converters take it. The folder is loaded again and compared with the model
that it was made from before anybody is told that it is one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import is_encoder
from tasks.models.quiet import quiet
from tasks.models.saved.compact import compact_weights, require_structure
from tasks.models.saved.save import replaced_state, write_folder
from tasks.models.sources.checkpoints import CONFIG
from tasks.pruning.core.structure import Kept

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Of the counts that a configuration gives under several names.
_QUERY_HEADS = ("num_attention_heads", "n_head", "num_heads")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads")
_CHANNELS = ("intermediate_size", "ffn_dim", "n_inner")
_HEAD_SIZE = "head_dim"
_SIMILAR = {"llama": ("mistral", "MistralForCausalLM", {"sliding_window": None})}
"""Model types that refuse a number of heads → one that computes the same and takes it."""
_TOKENS = 16


def even_counts(kept: Sequence[Kept]) -> tuple[int, int]:
    """Groups and channels that every block keeps.

    Raises:
        UnsupportedModelError: blocks differ.
    """
    counts = [(int(entry.groups_G.sum()), int(entry.channels_C.sum())) for entry in kept]
    if len(set(counts)) > 1:
        groups, channels = zip(*counts, strict=True)
        raise UnsupportedModelError(
            f"its blocks keep from {min(groups)} to {max(groups)} head groups and from "
            f"{min(channels)} to {max(channels)} channels: "
            "a stock configuration has one number for all. wanda_sp keeps as many in each"
        )
    return counts[0]


def save_stock(
    model: PreTrainedModel,
    kept: Sequence[Kept],
    source_folder: Path,
    out: Path,
    *,
    metadata: Mapping[str, Any],
) -> str:
    """Write what the blocks of ``model`` keep as a model of its family.

    Args:
        model: of full size, with what was removed set to zero; it is left as it was.
        kept: of each block.
        source_folder: where configuration and input side are copied from.
        out: an empty folder.
        metadata: what made this model; written to ``secateur.json``.

    Returns:
        The model type that the folder says.

    Raises:
        UnsupportedModelError: blocks that differ, a family whose configuration cannot say it, or
            a folder that would compute something else.
    """
    if is_encoder(model.config):
        raise UnsupportedModelError(
            "the configuration of an encoder has no size of a head: it divides the hidden size by "
            "the number of heads, so fewer heads cannot be said. Write it as safetensors or compact"
        )
    decoder = describe(model)
    structure = require_structure(decoder, kept)
    groups, channels = even_counts(kept)
    changes = _changes(model, groups, groups * structure.queries, structure.head_dim, channels)
    cut = {name: part.to(model.dtype) for name, part in compact_weights(decoder, kept).items()}
    state = replaced_state(model, {}, model.dtype) | cut
    write_folder(model, state, source_folder, out, dtype=model.dtype, metadata=metadata)
    text = (out / CONFIG).read_text(encoding="utf-8")
    refused = ""
    for other in (None, _SIMILAR.get(model.config.model_type)):
        settings = json.loads(text)
        place = settings.get("text_config", settings)
        place.update(changes)
        if other is not None:
            settings |= {"model_type": other[0], "architectures": [other[1]], **other[2]}
        elif refused:
            break
        (out / CONFIG).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        refused = _difference(out, model)
        if not refused:
            return str(settings["model_type"])
    raise UnsupportedModelError(f"as a stock {model.config.model_type} {refused}")


def _changes(
    model: PreTrainedModel, groups: int, heads: int, head_size: int, channels: int
) -> dict[str, int]:
    """The configuration's fields and what they become."""
    config = model.config.get_text_config()
    changes: dict[str, int] = {_HEAD_SIZE: head_size}
    for names, value in ((_QUERY_HEADS, heads), (_KEY_HEADS, groups), (_CHANNELS, channels)):
        present = [name for name in names if hasattr(config, name)]
        if not present and names is not _KEY_HEADS:
            raise UnsupportedModelError(
                f"the configuration of {config.model_type} has none of {', '.join(names)}"
            )
        changes |= dict.fromkeys(present[:1], value)
    return changes


@torch.no_grad()
def _difference(folder: Path, model: PreTrainedModel) -> str:
    """How the folder's model differs from ``model``, in words; empty where it does not."""
    from transformers import AutoModelForCausalLM

    try:
        with quiet():
            loaded, info = cast(
                "tuple[PreTrainedModel, dict[str, Any]]",
                AutoModelForCausalLM.from_pretrained(
                    folder, dtype=model.dtype, local_files_only=True, output_loading_info=True
                ),
            )
    except Exception as error:  # noqa: BLE001 (configurations refuse in many ways)
        return f"it is refused: {str(error).strip().splitlines()[0]}"
    if wrong := [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]:
        return f"its weights do not fit, {wrong[0]} for one"
    words = model.config.get_text_config().vocab_size
    ids = torch.arange(1, _TOKENS + 1)[None] * 7 % words
    mine = loaded.eval()(input_ids=ids).logits.double()
    its = model(input_ids=ids.to(model.device)).logits.double().cpu()
    allowed = 1e-4 if model.dtype == torch.float32 else 3e-2
    away = float((mine - its).abs().max() / its.abs().max().clamp(min=1e-12))
    return "" if away <= allowed else f"it computes something else, by {away:.1e} of the logits"
