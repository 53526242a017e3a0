"""Turns a GGUF file into a plain Hugging Face folder, once.

transformers reads GGUF, marks the model as quantised and then refuses to save it. So the weights
are read dequantised, checked against a plain model built from the same configuration, and saved as
that model's. Values are those of the file's quantisation: nothing is gained back.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from configs.trust import Trust
from tasks.models.errors import UnsupportedModelError
from tasks.models.files import share
from tasks.models.gguf_rope import carry_rope
from tasks.models.gguf_stated import (
    carry_attention_scale,
    has_own_scale,
    lacking,
)
from tasks.models.load import require_complete
from tasks.models.quiet import quiet
from tasks.models.sources import random_model
from tasks.models.sources.digests import MEMORY
from tasks.models.sources.gguf_header import check_complete
from tasks.models.sources.sources import ResolvedModel, fetch, require_unchanged
from tasks.store.steps import Facts, Step, Work

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BOS_FIRST = frozenset(
    [
        "llama3",
        "llama-v3",
        "llama-bpe",
        "falcon3",
        "falcon-h1",
        "pixtral",
        "midm-2.0",
        "lfm2",
        "jina-v5-nano",
        "tekken",
        "chameleon",
    ]
)
"""Pre-tokenizers of byte-level vocabularies that put BOS first unless the file says otherwise:
those with ``add_bos = true`` in llama.cpp's ``src/llama-vocab.cpp``."""

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

UNREAD = "unread"
"""The fact of a model's step that names what a GGUF file holds and the model lacks."""
_STEPS = 3
_VERSIONS = {"gguf": 3, "gguf with its own scale": 4, "random": 2, "folder": 2, "hub": 2}
"""Raise it when what is written changes: artifacts of the former version are not reused."""


def needs_preparation(model: ResolvedModel) -> bool:
    """Whether ``model`` must be written as a folder before it can be loaded."""
    return model.kind in ("gguf", "random")


def prepare(
    model: ResolvedModel,
    out: Path,
    progress: Progress | None = None,
    trust: Trust | None = None,
) -> list[str]:
    """Write configuration, float32 safetensors and tokenizer of a model to ``out``.

    Tied embeddings stay tied and are written once.

    Returns:
        The tensors and keys of the file that the model lacks, which ``trust`` allows.

    Raises:
        UnsupportedModelError: transformers cannot read this architecture, or not completely.
    """
    report = progress or (lambda done, total: None)
    if model.kind == "random":
        with quiet():
            random_model.write(out)
        share(*out.glob("*.safetensors"))
        return []
    path = Path(model.path)
    header = check_complete(path)
    with quiet():
        loaded, unexpected = _read(model)
        report(1, _STEPS)
        carry_rope(loaded.config, header, path)
        carry_attention_scale(loaded.config, header)
        plain = _plain(loaded)
        lacks = lacking(header, path, plain, unexpected)
        if lacks and not (trust and trust.unread_weights):
            raise UnsupportedModelError(_lacks(model.spec, lacks))
        state = loaded.state_dict()
        _check_same(plain.state_dict(), state, model.spec)
        plain.save_pretrained(out, state_dict=state)
        share(*out.glob("*.safetensors"))
        report(2, _STEPS)
        read_tokenizer(model).save_pretrained(out)
        report(3, _STEPS)
    return lacks


def _lacks(spec: str, lacks: list[str]) -> str:
    return (
        f"{spec}: the model that transformers reads from this GGUF file lacks {len(lacks)} of the "
        f"tensors and keys in it, such as {', '.join(lacks[:3])}: what is measured would be "
        "another model. Use the Hugging Face folder that the file was made from, or set "
        "trust.unread_weights=true to leave them out"
    )


def _read(model: ResolvedModel) -> tuple[PreTrainedModel, list[str]]:
    """The model, and tensors that transformers tells it left over."""
    import transformers

    path = Path(model.path)
    options: dict[str, Any] = {}
    # Newer versions keep some architectures' weights packed unless told otherwise.
    if hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    # The reader draws a progress bar that transformers' own switch does not reach.
    with contextlib.redirect_stderr(io.StringIO()), _explained(model, "weights"):
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    dequantised, info = loaded
    require_complete(info, model.spec)
    return dequantised, sorted(info.get("unexpected_keys", ()))


def read_config(model: ResolvedModel) -> Any:
    """What a model's configuration says of window lengths, before it is prepared."""
    if model.kind == "random":
        return random_model.config()
    # Only what a length is checked against: reading all of it takes transformers seconds.
    header = check_complete(Path(model.path))
    metadata = header.metadata
    length = metadata.get(f"{metadata.get('general.architecture')}.context_length")
    rows = header.shapes.get("token_embd.weight", (0,))[-1]
    return SimpleNamespace(max_position_embeddings=length, vocab_size=rows)


@lru_cache(maxsize=4)
def whole_config(model: ResolvedModel) -> Any:
    """A model's configuration before it is prepared, with all of its sizes; takes seconds."""
    if model.kind == "random":
        return random_model.config()
    from transformers import AutoConfig

    path = Path(model.path)
    with quiet(), _explained(model, "configuration"):
        return AutoConfig.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)


@lru_cache(maxsize=1)
def read_tokenizer(model: ResolvedModel) -> Any:
    """The tokenizer of a model that is not prepared yet."""
    if model.kind == "random":
        return random_model.tokenizer()
    from transformers import AutoTokenizer

    path = Path(model.path)
    # transformers knows the default of sentencepiece vocabularies alone.
    options = {"add_bos_token": True} if _has_bos_by_default(check_complete(path).metadata) else {}
    with quiet(), _explained(model, "tokenizer"):
        return AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, local_files_only=True, **options
        )


def is_without_bos(model: ResolvedModel) -> bool:
    """Whether a GGUF file says that its byte-level tokenizer puts no BOS before a text.

    That takes milliseconds; to read the tokenizer takes seconds.
    """
    metadata = check_complete(Path(model.path)).metadata
    told = metadata.get("tokenizer.ggml.add_bos_token") is False
    return told and metadata.get("tokenizer.ggml.model") == "gpt2"


def _has_bos_by_default(metadata: Mapping[str, Any]) -> bool:
    """Whether a file leaves it to llama.cpp's default to put BOS first, and that is to do so."""
    return (
        metadata.get("tokenizer.ggml.model") == "gpt2"
        and metadata.get("tokenizer.ggml.pre") in _BOS_FIRST
        and "tokenizer.ggml.add_bos_token" not in metadata
        and "tokenizer.ggml.bos_token_id" in metadata
    )


@contextlib.contextmanager
def _explained(model: ResolvedModel, part: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the converters raise whatever they stumble over
        reason = f"{model.spec}: transformers cannot read this GGUF file's {part}: {error}"
        raise UnsupportedModelError(reason) from error


def _plain(loaded: PreTrainedModel) -> PreTrainedModel:
    """The same architecture without quantisation and without weights."""
    settings = loaded.config.to_dict()
    settings.pop("quantization_config", None)
    config = type(loaded.config).from_dict(settings)
    with torch.device("meta"):
        plain = type(loaded)(config)
    plain.generation_config = loaded.generation_config
    return plain


def _check_same(expected: dict[str, Tensor], given: dict[str, Tensor], spec: str) -> None:
    differing = sorted(
        name
        for name in expected.keys() | given.keys()
        if name not in expected
        or name not in given
        or expected[name].shape != given[name].shape
        or given[name].dtype != torch.float32
    )
    if differing:
        raise UnsupportedModelError(
            f"{spec}: transformers reads {len(differing)} weights of this GGUF file into another "
            f"form than the plain model's, such as {', '.join(differing[:3])}"
        )


def model_step(model: ResolvedModel) -> Step:
    """The model as a folder that transformers loads; one that is such a folder lies where it is."""
    facts = {
        "name": "model",
        "version": _VERSIONS[_written_as(model)],
        "inputs": {"model": model.digest},
        "label": "prepare",
        "group": model.spec,
        "words": {
            "model": model.spec,
            "revision": model.revision,
            "source": model.kind,
            "unread": in_words(model.contents.unread) if model.contents else "",
        },
        "about": model,
        "unchanged": lambda context: require_unchanged(
            model,
            field="models",
            trust=context.trust,
            digest_cache=context.store.root / MEMORY,
        ),
    }
    if needs_preparation(model):
        return Step(**facts, produce=lambda work: _produce(work, model))
    return Step(
        **facts,
        outside=lambda context: Path(fetch(model, field="models", trust=context.trust).path),
    )


def _written_as(model: ResolvedModel) -> str:
    if model.kind == "gguf" and has_own_scale(check_complete(Path(model.path))):
        return "gguf with its own scale"
    return model.kind


def in_words(names: Sequence[str]) -> str:
    """How many names there are, and some of them; empty where there are none."""
    if not names:
        return ""
    others = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)}: {', '.join(names[:3])}{others}"


def _produce(work: Work, model: ResolvedModel) -> Facts:
    lacks = prepare(model, work.out, work.progress, work.context.trust)
    return {UNREAD: lacks} if lacks else {}
