"""What a checkpoint takes over from its source: files, configuration, unread tensors, names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tasks.models.files import share
from tasks.models.sources.checkpoints import (
    CONFIG,
    SAFETENSORS,
    SAFETENSORS_INDEX,
    input_files,
    licences,
    present_weights,
)
from tasks.models.sources.headers import read_shapes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_UNREAD = "model-unread-{:05}.safetensors"


def copy_input_side(source: Path, out: Path) -> None:
    """Copy every file that makes the model's inputs, as it is: tokenizer, processor, templates."""
    for path in (*input_files(source), *licences(source)):
        copied = out / path.relative_to(source)
        copied.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, copied)


def copy_config(source: Path, out: Path, dtype: torch.dtype) -> None:
    """Write the source's configuration, in which nothing but the dtype of the weights changes."""
    text = (source / CONFIG).read_text(encoding="utf-8")
    config = json.loads(text)
    name = str(dtype).removeprefix("torch.")
    changed = False
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            # Both are read: the newer name, and the one that other programs know.
            keys = [key for key in ("dtype", "torch_dtype") if part.get(key)]
            keys = keys or (["dtype"] if part is config else [])
            changed |= any(part.get(key) != name for key in keys)
            part.update(dict.fromkeys(keys, name))
    if changed:
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (out / CONFIG).write_text(text, encoding="utf-8")


def carry_over(source: Path, names: Collection[str], out: Path) -> None:
    """Add tensors of the source's files to a checkpoint, as they are.

    Args:
        names: of the tensors in the source's files.
        out: a whole checkpoint; its weights get an index where they have none.
    """
    if not names:
        return
    index = _index_of(out)
    for number, file in enumerate(present_weights(source)):
        here = sorted(read_shapes(source, [file]).keys() & set(names))
        if here:
            target = _UNREAD.format(number)
            tensors = _tensors(source / file, here)
            _save(tensors, out / target)
            index["weight_map"] |= dict.fromkeys(here, target)
            total = index["metadata"].get("total_size", 0)
            index["metadata"]["total_size"] = total + sum(t.nbytes for t in tensors.values())
    text = json.dumps(index, indent=2, sort_keys=True) + "\n"
    (out / SAFETENSORS_INDEX).write_text(text, encoding="utf-8")


def name_as_source(source: Path, prefix: str, out: Path) -> None:
    """Give a checkpoint's tensors the names that a base class gave its source's.

    Files that ``GPT2Model`` wrote name ``h.0.attn…`` what ``GPT2LMHeadModel`` names
    ``transformer.h.0.attn…``; transformers loads both.

    Args:
        prefix: of the base model in the whole one, such as ``transformer``.
        out: a checkpoint that transformers wrote.
    """
    there = read_shapes(source, present_weights(source))
    for path in (p for p in out.glob("*.safetensors") if prefix):
        shorter = {
            name: base
            for name in read_shapes(out, [path.name])
            if name not in there and (base := name.removeprefix(f"{prefix}.")) in there
        }
        if shorter:
            _rename_(path, shorter)
            index = out / SAFETENSORS_INDEX
            if index.is_file():
                held = json.loads(index.read_text(encoding="utf-8"))
                files = held["weight_map"]
                held["weight_map"] = {shorter.get(n, n): file for n, file in files.items()}
                text = json.dumps(held, indent=2, sort_keys=True) + "\n"
                index.write_text(text, encoding="utf-8")


def _rename_(path: Path, shorter: Mapping[str, str]) -> None:
    """Rename tensors of a safetensors file where it lies: its header may end in spaces."""
    with path.open("r+b") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        renamed = {shorter.get(name, name): entry for name, entry in header.items()}
        text = json.dumps(renamed, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= size, "names only get shorter"
        stream.seek(8)
        stream.write(text.ljust(size))


def file_names(model: PreTrainedModel) -> dict[str, str]:
    """Parameter of a loaded model → its name in files, where that is another.

    Those that files hold in parts, or joined with others, are not in it.
    """
    from transformers.core_model_loading import revert_weight_conversion

    empty = {
        name: torch.empty(parameter.shape, device="meta")
        for name, parameter in model.named_parameters()
    }
    known = {id(tensor): name for name, tensor in empty.items()}
    reverted: Mapping[str, Tensor] = revert_weight_conversion(model, dict(empty))
    pairs = ((known.get(id(tensor)), name) for name, tensor in reverted.items())
    return {own: name for own, name in pairs if own is not None and own != name}


def _index_of(out: Path) -> dict[str, Any]:
    """The checkpoint's index; a single weight file is renamed as the first of several."""
    path = out / SAFETENSORS_INDEX
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    renamed = "model-00001.safetensors"
    names = read_shapes(out, [SAFETENSORS])
    size = (out / SAFETENSORS).stat().st_size
    (out / SAFETENSORS).rename(out / renamed)
    return {"metadata": {"total_size": size}, "weight_map": dict.fromkeys(names, renamed)}


def _tensors(path: Path, names: Collection[str]) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {name: state[name].contiguous() for name in names}
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in names}


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, path, metadata={"format": "pt"})
    share(path)
