"""Compares a folder's tensors with the model that its configuration describes, without any values.

transformers itself loads the headers into a model on the ``meta`` device: whatever renames, joins
or splits tensors of an architecture is its own code, and no weight is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.models.load import (
    auto_class,
    is_encoder,
    lacks_pooler,
    load_config,
    require_complete,
)
from tasks.models.quiet import quiet
from tasks.models.sources.checkpoints import present_weights, weight_files
from tasks.models.sources.headers import Shapes, read_shapes
from tasks.models.sources.sources import Contents
from tasks.models.sources.tensor_names import foreign
from tasks.models.splitting import doubted_split
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.exclusion import ExclusionError
from tasks.pruning.core.structure import removable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SHOWN = 3
_HEADS = re.compile(
    r"(^|[._])(mtp|nextn|eagle|medusa|heads?|scores?|classifier|pooler|vision|visual|image|images"
    r"|audio|speech|talker|projector|connector)([._]|$)"
)
"""What stands beside a language model and does not change what it computes."""
_TABLES = re.compile(r"(inv_freq|position_ids|masked_bias)$")
_MASKS = re.compile(r"(attn|attention)\.bias$")
"""Tables that older versions saved and a model makes for itself; masks are ``1 × 1 × L × L``."""


def contents_of(
    folder: Path, trust: Trust, exclude: tuple[str, ...], *, field: str, given: str
) -> Contents:
    """What the headers of a whole folder tell.

    Args:
        exclude: patterns of layers that are to stay dense.
        field, given: for messages, what the user wrote and where.

    Raises:
        ConfigurationError: as :func:`examine`, naming the tensor; a file is damaged; or a pattern
            names nothing.
    """
    names = weight_files(folder, field=field, given=given, trust=trust)
    try:
        shapes = read_shapes(folder, names)
    except (OSError, ValueError) as error:
        raise ConfigurationError(field, given, f"this model cannot be used: {error}") from error
    return contents_by_headers(folder, shapes, trust, exclude, field=field, given=given)


def contents_by_headers(
    folder: Path,
    shapes: Shapes,
    trust: Trust,
    exclude: tuple[str, ...],
    *,
    field: str,
    given: str,
) -> Contents:
    """As :func:`contents_of`, of a folder whose weights need not be there.

    Args:
        shapes: of all tensors of its weight files.
    """
    try:
        decoder, unread = examine(folder, shapes, trust)
        unread = tuple(name for name in unread if not _is_table(name, shapes))
        contents = _contents(replace(decoder, exclude=exclude), unread, given)
        return replace(contents, doubt=doubted_split(folder, trust, contents.vocabulary))
    except ConfigurationError:
        raise
    except (OSError, ValueError) as error:  # UnsupportedModelError is one
        raise ConfigurationError(field, given, f"this model cannot be used: {error}") from error


def contents_by_configuration(
    config: Any, trust: Trust, exclude: tuple[str, ...], *, given: str
) -> Contents:
    """What a configuration alone tells: as :func:`contents_of`, but for unread tensors.

    Raises:
        ConfigurationError: a pattern of ``exclude`` names nothing.
        UnsupportedModelError: nothing of it can be pruned.
    """
    with quiet(), _explained():
        model = _built(config, trust)
    return _contents(describe(model, exclude), (), given)


def _contents(decoder: Decoder, unread: tuple[str, ...], given: str) -> Contents:
    try:
        decoder.require_exclusion()
    except ExclusionError as error:
        asked = error.pattern or list(decoder.exclude)
        raise ConfigurationError("exclude", asked, f"in {given} {error.reason}") from error
    embedding: Any = decoder.model.get_input_embeddings()  # type: ignore[operator]
    layers, pruned = decoder.layers(), decoder.pruned_layers()
    weights = sum(layer.stored.numel() for layer in layers.values())
    left = weights - sum(layer.stored.numel() for layer in pruned.values())
    unstructured = ""
    try:
        removable(decoder)
    except ValueError as error:
        unstructured = str(error)
    return Contents(
        unread=unread,
        vocabulary=embedding.weight.shape[0],
        widths=tuple(sorted({layer.in_features for layer in pruned.values()})),
        unstructured=unstructured,
        excluded=(len(layers) - len(pruned), left, weights),
        encoder=is_encoder(decoder.model.config),
    )


def unread_tensors(folder: Path, trust: Trust) -> tuple[str, ...]:
    """Names of the tensors in the files of a folder that was checked which its model leaves unread.

    Raises:
        UnsupportedModelError: as :func:`examine`.
    """
    return examine(folder, read_shapes(folder, present_weights(folder)), trust)[1]


def examine(folder: Path, shapes: Shapes, trust: Trust) -> tuple[Decoder, tuple[str, ...]]:
    """Load names and shapes alone.

    Args:
        folder: holds the configuration; weights need not be there.
        shapes: of all tensors of the weight files.

    Returns:
        The model on the ``meta`` device, and the names in the files of tensors that it leaves
        unread.

    Raises:
        UnsupportedModelError: nothing of it can be pruned, weights are missing, of another shape
            than the configuration says, or left unread although they belong to the model.
    """
    config = load_config(folder, trust)
    require_known(config)
    _require_unwrapped(config, trust)
    read: set[str] = set()
    with quiet():
        model, info = _load(config, shapes, read, trust)
        if lacks_pooler(info):
            model, info = _load(config, shapes, read, trust, add_pooling_layer=False)
    if reason := foreign(shapes.keys() - read):
        raise UnsupportedModelError(reason)
    require_complete(info, folder.name)
    _require_shapes(info)
    decoder = describe(model)
    unexpected = info.get("unexpected_keys", ())
    unknown = [name for name in unexpected if not _is_table(name, shapes)]
    belonging = sorted(_belonging(decoder, unknown))
    if belonging and not trust.unread_weights:
        raise UnsupportedModelError(
            f"its files hold {len(belonging)} weights of the model that its configuration leaves "
            f"unread, such as {', '.join(belonging[:_SHOWN])}: what is measured would be another "
            "model. Correct config.json, or set trust.unread_weights=true to leave them out"
        )
    return decoder, tuple(sorted(shapes.keys() - read))


def require_known(config: Any) -> None:
    """Refuse what is neither a causal language model nor an encoder of text.

    Raises:
        UnsupportedModelError: with the model type.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.model_type
    brought = getattr(config, "auto_map", None) or {}  # code that comes with the model
    known = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or "AutoModelForCausalLM" in brought
    if not known and not is_encoder(config):
        raise UnsupportedModelError(
            f"transformers has no causal language model of type {kind}: vision, speech and "
            "vision-language models that it does not load as one cannot be pruned"
        )


def _require_unwrapped(config: Any, trust: Trust) -> None:
    """Refuse a configuration of text and images of which transformers loads the text's part alone.

    What it saves of that has another configuration and other names of tensors than the folder.

    Raises:
        UnsupportedModelError: with how to save the part, where that can be pruned; else why not.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    part = config.sub_configs.get("text_config")
    loaded = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if part is None or getattr(loaded, "config_class", None) is not part:
        return
    text = config.get_text_config()
    with quiet(), _explained():
        model = _built(text, trust)
    describe(model)
    raise UnsupportedModelError(
        f"it is a vision-language model ({config.model_type}), whose language model "
        f"({text.model_type}) has to lie in a folder of its own. In Python: from transformers "
        "import AutoModelForCausalLM, AutoTokenizer; AutoModelForCausalLM.from_pretrained(FOLDER, "
        'dtype="auto").save_pretrained(TEXT); AutoTokenizer.from_pretrained(FOLDER)'
        ".save_pretrained(TEXT)"
    )


class _Header:
    """Stands for one tensor of a file: tells when it is read, and gives its shape alone."""

    def __init__(self, name: str, shape: tuple[int, ...], read: set[str]) -> None:
        self._name, self._shape, self._read = name, shape, read

    def __getitem__(self, _: Any) -> Tensor:
        self._read.add(self._name)
        return torch.empty(self._shape, device="meta")


def _load(
    config: Any, shapes: Shapes, read: set[str], trust: Trust, **options: Any
) -> tuple[PreTrainedModel, dict[str, Any]]:
    with _explained():
        loaded: Any = type(_built(config, trust, **options)).from_pretrained(
            None,
            config=config,
            state_dict={name: _Header(name, shape, read) for name, shape in shapes.items()},
            device_map={"": "meta"},
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
        )
    return loaded


def _built(config: Any, trust: Trust, **options: Any) -> PreTrainedModel:
    """The model on the ``meta`` device."""
    with torch.device("meta"):
        return auto_class(config).from_config(
            config, trust_remote_code=trust.remote_code, **options
        )


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a model's constructor may fail over any value of its configuration
        reason = f"transformers cannot build a model from its configuration: {_first_line(error)}"
        raise UnsupportedModelError(reason) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 300 else f"{lines[0][:300]}…"


def _require_shapes(info: dict[str, Any]) -> None:
    differing = sorted(info.get("mismatched_keys", ()))
    if differing:
        name, given, expected = differing[0]
        others = f", and {len(differing) - 1} others differ" if len(differing) > 1 else ""
        raise UnsupportedModelError(
            f"{name} has shape {tuple(given)} in its files and {tuple(expected)} by its "
            f"config.json{others}: one of them belongs to another model"
        )


def _is_table(name: str, shapes: Shapes) -> bool:
    """Whether a tensor of the files is no weight; a fused bias may be called as a mask is."""
    square = len(shapes.get(name, ())) == 4
    return bool(_TABLES.search(name) or (square and _MASKS.search(name)))


def _belonging(decoder: Decoder, unexpected: Iterable[str]) -> Iterator[str]:
    """Those of the unread tensors that would change what the model computes, by its names."""
    model: Any = decoder.model
    blocks = f"{decoder.blocks_name}."
    body = f"{decoder.blocks_name.rpartition('.')[0]}."
    for name in unexpected:
        # A folder that the base class saved names its tensors without the base's own name; one
        # that is read into the base class alone, as an encoder is, may name them with it.
        bare = name.removeprefix(f"{model.base_model_prefix}.")
        in_body = bare.startswith(body) or name.startswith(body)
        if (in_body and not _HEADS.search(name)) or any(
            full.startswith(blocks) or _has_weights(model, full.rpartition(".")[0])
            for full in (name, bare, f"{model.base_model_prefix}.{name}")
        ):
            yield name


def _has_weights(model: nn.Module, name: str) -> bool:
    """Whether a module of the model has this name and weights of its own."""
    try:
        found = model.get_submodule(name)
    except AttributeError:
        return False
    return bool(name) and next(found.parameters(recurse=False), None) is not None
