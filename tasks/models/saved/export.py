"""Takes a pruned checkpoint out of the store, in a form that others load.

``safetensors``
    As it is: full size with zeros where weights were removed. Stock ``from_pretrained`` and
    inference servers such as vLLM load it, and compute with dense kernels.
``compact``
    The small matrices that are left where heads and channels were removed: smaller and faster on
    any hardware. ``tasks.models.saved.pruned.load_pruned`` loads it; nothing else knows the form.
``stock``
    The same, where every block keeps as many heads and channels as the others: an ordinary model
    of its family, which stock ``from_pretrained``, inference servers and converters take.

There is no ``compressed-tensors``: see ``NO_COMPRESSED_TENSORS``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from configs.errors import ConfigurationError
from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.models.saved.branches import FILE as BRANCHES
from tasks.models.saved.compact import require_removed
from tasks.models.saved.kept import kept_of_json
from tasks.models.saved.pruned import load_pruned, read_metadata
from tasks.models.saved.sliced import FORM, SLICED, save_compact
from tasks.models.saved.stock import save_stock
from tasks.store.manifest import MANIFEST, VERIFIED

SAFETENSORS, COMPACT, STOCK = "safetensors", "compact", "stock"
LOADER = "tasks.models.saved.pruned.load_pruned"
FORMATS = (SAFETENSORS, COMPACT, STOCK)
COMPRESSED_TENSORS = "compressed-tensors"
NO_COMPRESSED_TENSORS = (
    "compressed-tensors dropped its 2:4 format (sparse-24-bitmask) in version 0.15, which "
    "transformers 5 requires at least, and vLLM removed its 2:4 kernels and refuses such folders: "
    "nothing current would read one"
)


def check_format(name: str, field: str = "--format") -> str:
    """``name``, if it can be written.

    Raises:
        ConfigurationError: with the reason why there is no ``compressed-tensors``, if that is it.
    """
    if name in FORMATS:
        return name
    allowed = f"a format is {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    if name == COMPRESSED_TENSORS:
        hint = f"vLLM reads {SAFETENSORS}, with dense kernels"
        raise ConfigurationError(field, name, f"{allowed}; {NO_COMPRESSED_TENSORS}", hint)
    raise ConfigurationError(field, name, allowed)


def write_export(checkpoint: Path, out: Path, form: str) -> list[str]:
    """Write the pruned model of ``checkpoint`` into the empty folder ``out``.

    Returns:
        Sentences for people: what loads it, and what a loader would miss.

    Raises:
        ConfigurationError: a form that this checkpoint cannot take.
        UnsupportedModelError: the checkpoint is damaged.
    """
    check_format(form)
    stored_sliced = read_metadata(checkpoint).get(FORM) == SLICED
    if form in (COMPACT, STOCK) and not stored_sliced:
        _write_smaller(checkpoint, out, form)
    elif form != COMPACT and stored_sliced:
        allowed = f"the checkpoint holds sliced weights only, which {COMPACT} keeps"
        raise ConfigurationError("--format", form, allowed)
    else:
        for path in sorted(checkpoint.rglob("*")):
            # These describe the store's folder, not the copy.
            if path.is_file() and path.name not in (MANIFEST, VERIFIED):
                copied = out / path.relative_to(checkpoint)
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copied)
    return _how_to_load(out, form)


def _write_smaller(checkpoint: Path, out: Path, form: str) -> None:
    metadata = read_metadata(checkpoint)
    if "kept" not in metadata:
        raise ConfigurationError(
            "--format",
            form,
            "the method removed single weights, no heads or channels, so there is nothing to cut "
            f"out: {SAFETENSORS} it is",
        )
    if (checkpoint / BRANCHES).is_file():
        allowed = f"side branches ({BRANCHES}) do not fit sliced layers: {SAFETENSORS} keeps them"
        raise ConfigurationError("--format", form, allowed)
    kept = kept_of_json(metadata["kept"])
    model = load_pruned(checkpoint, sliced=False)
    require_removed(describe(model), kept)
    if form == COMPACT:
        save_compact(model, kept, checkpoint, out, dtype=model.dtype, metadata=metadata)
        return
    del metadata["kept"]  # there is nothing left to cut out
    try:
        save_stock(model, kept, checkpoint, out, metadata=metadata)
    except UnsupportedModelError as error:
        hint = f"{COMPACT} takes it"
        raise ConfigurationError("--format", STOCK, str(error), hint) from error


def _how_to_load(out: Path, form: str) -> list[str]:
    if form == COMPACT:
        return [f"load it with {LOADER}; stock from_pretrained refuses it"]
    if form == STOCK:
        return ["load it with stock from_pretrained: it is an ordinary model of its family"]
    said = ["load it with stock from_pretrained; vLLM reads it, with dense kernels"]
    if "kept" in read_metadata(out):
        said.append(
            f"heads and channels were removed: --format {COMPACT} is smaller and faster, and so is "
            f"{STOCK} where all blocks keep as many"
        )
    if (out / BRANCHES).is_file():
        said.append(
            f"its side branches ({BRANCHES}) are seen by {LOADER} alone; "
            "any other loader computes without them"
        )
    return said
