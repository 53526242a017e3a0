"""Checks a local model before anything is computed: complete, unquantised, with tokenizer.

Only headers are read, so that a folder of any size takes milliseconds.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any

from configs.errors import ConfigurationError
from configs.trust import Trust

CONFIG, GENERATION = "config.json", "generation_config.json"
SAFETENSORS, SAFETENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER, BRANCHES = "adapter_config.json", "slorb.safetensors"
_DEPTHS = ("*/", "snapshots/*/")
"""Where a model lies below the folder that is named by mistake: of a training, or a hub's cache."""
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth")

VOCABULARIES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "*.tiktoken",
)
"""Each of them makes a tokenizer."""
INPUT_FILES = ("*.json", "*.jinja", "*.model", "*.tiktoken", "*.txt", "additional_chat_templates/*")
"""Tokenizer, processor, chat templates and settings of generating, whatever they are called."""
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")
_NO_INPUT = {CONFIG, ADAPTER, "secateur.json", "manifest.json", "history.json"}
_NO_INPUT_ENDS = (".index.json", "_results.json", "trainer_state.json")

TRUST_HINT = "If you trust where they come from, set trust.pickle_weights=true"
_QUANTISED = ("quantization_config", "compression_config")
"""Keys of ``config.json``; the second is compressed-tensors' former one."""
_DEQUANTISED = {"mxfp4": "Mxfp4Config", "fp8": "FineGrainedFP8Config"}
"""``quant_method`` → transformers' configuration that dequantises what then saves as plain."""
_MAX_HEADER = 100_000_000  # what the safetensors library itself accepts


def check_folder(folder: Path, *, field: str, given: str, trust: Trust) -> dict[str, Path]:
    """Check a Hugging Face folder and list the files that determine the model.

    Args:
        field, given: for the message, what the user wrote and where.

    Returns:
        Name inside the folder → path: configuration, weights, tokenizer, and code where trusted.

    Raises:
        ConfigurationError: with what is missing or damaged.
    """
    _require_model(folder, field, given)
    config = _read_json(folder / CONFIG, field, given)
    check_config(config, field=field, given=given)
    files = [CONFIG, *weight_files(folder, field=field, given=given, trust=trust)]
    if not any(next(folder.glob(name), None) for name in VOCABULARIES):
        raise ConfigurationError(
            field,
            given,
            "the folder needs a tokenizer: tokenizer.json, or its vocabulary",
        )
    files += [path.relative_to(folder).as_posix() for path in input_files(folder)]
    if trust.remote_code:
        files += sorted(path.name for path in folder.glob("*.py"))
    return {name: folder / name for name in files}


def input_files(folder: Path) -> list[Path]:
    """What makes the model's inputs, beside its configuration, in order of their names."""
    found = {path for pattern in INPUT_FILES for path in folder.glob(pattern) if path.is_file()}
    return sorted(
        path
        for path in found
        if path.name not in _NO_INPUT
        and not path.name.endswith(_NO_INPUT_ENDS)
        and not path.name.startswith(".")
    )


def licences(folder: Path) -> list[Path]:
    """What has to stay with the weights."""
    found = {path for pattern in LICENCES for path in folder.glob(pattern) if path.is_file()}
    return sorted(found)


def present_weights(folder: Path) -> list[str]:
    """The weight files of a folder that was checked, without its index."""
    trust = Trust(pickle_weights=True)
    names = weight_files(folder, field="models", given=folder.name, trust=trust)
    return [name for name in names if not name.endswith(".json")]


def _require_model(folder: Path, field: str, given: str) -> None:
    """Refuse folders that hold something else than a whole model, with where one may be."""
    check_names({path.name for path in folder.iterdir()}, field=field, given=given)
    if (folder / BRANCHES).is_file():
        raise ConfigurationError(
            field,
            given,
            f"its side branches ({BRANCHES}) are no part of the weights that would be pruned",
            f"Without them, remove {BRANCHES}",
        )
    if not (folder / CONFIG).is_file():
        found = [path.parent for depth in _DEPTHS for path in folder.glob(f"{depth}{CONFIG}")]
        hint = f"Did you mean {' or '.join(map(str, sorted(found)[:2]))}?" if found else ""
        raise ConfigurationError(field, given, f"the folder needs {CONFIG}", hint)


def check_names(names: Set[str], *, field: str, given: str) -> None:
    """Refuse what is no whole model, from the names of its files alone."""
    if ADAPTER in names:
        raise ConfigurationError(
            field,
            given,
            f"{ADAPTER} says that it holds an adapter (LoRA), not a whole model",
            "Merge it into its base model first (peft: merge_and_unload, then save_pretrained)",
        )


def check_config(config: dict[str, Any], *, field: str, given: str) -> None:
    """Refuse what cannot be pruned, from ``config.json`` alone."""
    if quantised := _quantisation(config):
        kind = quantised.get("quant_method", "quantised")
        allowed = f"its weights are quantised ({kind}); prune the original, unquantised weights"
        raise ConfigurationError(field, given, allowed, _dequantising(kind))
    if config.get("is_encoder_decoder"):
        raise ConfigurationError(
            field, given, "it is an encoder-decoder model; only decoder-only language models work"
        )


def _dequantising(kind: str) -> str:
    """How to dequantise what was published quantised alone, as gpt-oss and DeepSeek's models."""
    if kind not in _DEQUANTISED:
        return ""
    config = _DEQUANTISED[kind]
    return (
        f"Where there are none, in Python: from transformers import AutoModelForCausalLM, "
        f"AutoTokenizer, {config}; AutoModelForCausalLM.from_pretrained(MODEL, "
        f'quantization_config={config}(dequantize=True), dtype="auto").save_pretrained(FOLDER); '
        "AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER)"
    )


def _quantisation(config: dict[str, Any]) -> dict[str, Any]:
    """How the weights are quantised; empty where they are not, whether the key is there or not."""
    parts = (config, *(value for value in config.values() if isinstance(value, dict)))
    return next((q for part in parts for name in _QUANTISED if (q := part.get(name))), {})


def weight_files(folder: Path, *, field: str, given: str, trust: Trust) -> list[str]:
    """The files that transformers will load weights from, checked, index included."""
    if (folder / SAFETENSORS).is_file():
        names = [SAFETENSORS]
    elif (folder / SAFETENSORS_INDEX).is_file():
        names = [SAFETENSORS_INDEX, *_shards(folder / SAFETENSORS_INDEX, field, given)]
    else:
        names = _pickles(folder, field, given, trust)
    for name in names:
        if reason := _damage(folder / name):
            allowed = f"{name} is damaged: {reason}; get it again"
            raise ConfigurationError(field, given, allowed)
    return names


def _shards(index: Path, field: str, given: str) -> list[str]:
    weights = _read_json(index, field, given).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise ConfigurationError(field, given, f"{index.name} lists no weights")
    names = sorted(set(weights.values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise ConfigurationError(
            field,
            given,
            f"{index.name} names {len(names)} weight files and {len(missing)} are missing: "
            f"{', '.join(missing[:3])}",
        )
    return names


def _pickles(folder: Path, field: str, given: str, trust: Trust) -> list[str]:
    found = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLE_SUFFIXES)
    found = [name for name in found if name != "training_args.bin"]
    if not found:
        others = sorted(path.name for path in folder.glob("*.safetensors"))
        held = f"; it holds {', '.join(others[:3])}" if others else ""
        raise ConfigurationError(
            field, given, f"the folder needs weights: {SAFETENSORS} or {SAFETENSORS_INDEX}{held}"
        )
    if not trust.pickle_weights:
        raise ConfigurationError(
            field,
            given,
            f"its weights ({', '.join(found[:3])}) are pickle files, which can run any code, "
            "and only safetensors or GGUF weights load",
            TRUST_HINT,
        )
    if PICKLE in found:
        return [PICKLE]
    if (folder / PICKLE_INDEX).is_file():
        return [PICKLE_INDEX, *_shards(folder / PICKLE_INDEX, field, given)]
    raise ConfigurationError(field, given, f"pickle weights must be called {PICKLE}")


def _read_json(path: Path, field: str, given: str) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigurationError(field, given, f"the folder needs {path.name}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(field, given, f"{path.name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(field, given, f"{path.name} must hold a JSON object")
    return content


def _damage(path: Path) -> str | None:
    """Why a weight file cannot be whole; None where nothing speaks against it."""
    with path.open("rb") as stream:
        start = stream.read(64)
    if start.startswith(b"version ") and b"git-lfs" in start:
        return "it is a Git LFS pointer, not the weights (git lfs pull)"
    if path.suffix == ".safetensors":
        return next(_safetensors_damage(path), None)
    if path.suffix in PICKLE_SUFFIXES and start.startswith(b"PK") and not zipfile.is_zipfile(path):
        return "its archive is cut off"
    return None


def _safetensors_damage(path: Path) -> Iterator[str]:
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            yield f"its {size:,} bytes do not hold a safetensors header"
            return
        try:
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            ends = [entry["data_offsets"][1] for entry in header.values()]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            yield "its safetensors header cannot be read"
            return
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        yield f"it has {size:,} bytes and its header promises {expected:,}"
    elif not ends:
        yield "it holds no tensors"
