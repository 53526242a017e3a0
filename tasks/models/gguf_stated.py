"""What a GGUF file states and the model that transformers builds of it lacks.

transformers reads a list of keys and tensors for each architecture and passes over all others
without a word: a rotary base of StarCoder2, any scaling of it, a softcap, a bias. What they mean is
llama.cpp's: ``src/llama-arch.cpp`` names them, ``src/llama-model.cpp`` has the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tasks.models.sources.gguf_header import GgufHeader

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FACTORS = "rope_freqs.weight"
"""By what each rotary frequency is divided; so llama.cpp keeps the scaling of Llama 3.1 to 3.3."""
_FLOAT32 = 0
_THETA = 10_000.0
"""llama.cpp's rotary base where a file has none."""
_FULL, _SLIDING = "full_attention", "sliding_attention"
_SECTIONS = "mrope_section"
_FREQUENCIES = frozenset({"freq_base", "dimension_count", "scaling.factor", "scale_linear"})
_SLIDING_FREQUENCIES = frozenset({"freq_base_swa", "dimension_count_swa"})
_NO_SCALING = frozenset({"scaling.type", "scaling.original_context_length", "scaling.finetuned"})
"""They scale nothing by themselves."""

_SHOWN_BY_SHAPES = frozenset(
    [
        "vocab_size",
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "expert_feed_forward_length",
        "expert_shared_feed_forward_length",
        "ssm.conv_kernel",
        "ssm.inner_size",
        "ssm.state_size",
        "ssm.time_step_rank",
        "ssm.group_count",
        "shortconv.l_cache",
        "full_attention_interval",
    ]
)
"""A model that differs in one of them has tensors of other shapes or names, or takes other lengths
and computes the same."""
_BESIDE = frozenset({"nextn_predict_layers", "pooling_type"})
"""Of what stands beside the language model, as examine.py's heads do."""
_NORM = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
_SAME = {
    "attention.head_count": ("num_attention_heads",),
    "attention.head_count_kv": (
        "num_key_value_heads",
        "num_global_key_value_heads",
        "num_kv_heads",
        "num_attention_heads",
    ),
    "attention.key_length": ("head_dim", "global_head_dim"),
    "attention.value_length": ("head_dim", "global_head_dim"),
    "attention.key_length_swa": ("head_dim",),
    "attention.value_length_swa": ("head_dim",),
    "attention.layer_norm_rms_epsilon": _NORM,
    "attention.layer_norm_epsilon": _NORM,
    "attention.sliding_window": ("sliding_window",),
    "attention.shared_kv_layers": ("num_kv_shared_layers",),
    "attn_logit_softcapping": ("attn_logit_softcapping",),
    "final_logit_softcapping": ("final_logit_softcapping",),
    "embedding_length_per_layer_input": ("hidden_size_per_layer_input",),
    "expert_count": ("num_experts", "num_local_experts"),
    "expert_used_count": ("num_experts_per_tok", "top_k_experts"),
    "expert_weights_norm": ("norm_topk_prob",),
    "expert_weights_scale": ("routed_scaling_factor",),
    "logit_scale": ("logit_scale",),
    "use_parallel_residual": ("use_parallel_residual",),
}
"""Key → the names that configurations have for it: one of them has to have its value."""
_BLOCKS_OF_27B = {"gemma2": 46, "gemma3": 62}
"""By which llama.cpp knows Gemma's 27B models, whose attention has a scale of its own."""
_SCALE = "attention.scale"
_NOTHING = {
    "attention.causal": {True},
    "embedding_scale": {0, 1},
    "expert_weights_scale": {0, 1},
    "logit_scale": {0, 1},
    "residual_scale": {0, 1},
}
"""Key → the values with which it changes nothing in llama.cpp; of any other it is 0, or False."""
_GATES = {0: "softmax", 1: "softmax", 2: "sigmoid"}
_ORIGINAL, _GROUPED = "Meta AI original pth", "jploski"


def carry_rope(config: Any, header: GgufHeader, path: Path) -> None:
    """Write the rotary base and scaling that a file states into a model's configuration.

    Linear scaling and Llama 3's are carried over, into a configuration that has none; whether that
    was all is :func:`lacking`'s to say.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    rope = rope.get(_FULL, rope)
    if rope.get("rope_type", "default") != "default":
        return
    stated = _stated_rope(header, path)
    rope["rope_theta"] = _of(header, "rope.freq_base", rope.get("rope_theta"))
    if stated.factors is not None:
        rope |= _llama3(stated)
    elif stated.kind == "linear" and stated.factor != 1:
        rope |= {"rope_type": "linear", "factor": stated.factor}


def carry_attention_scale(config: Any, header: GgufHeader) -> None:
    """Write llama.cpp's scale into a configuration that has one of its own, Gemma 2's and 3's.

    No key states it, and transformers takes that of their smaller models; whether it fits is
    :func:`lacking`'s to say.
    """
    if has_own_scale(header):
        config.query_pre_attn_scalar = round(_attention_scale(header) ** -2)


def has_own_scale(header: GgufHeader) -> bool:
    """Whether :func:`carry_attention_scale` has something to carry over."""
    return header.metadata.get("general.architecture") in _BLOCKS_OF_27B


def lacking(
    header: GgufHeader, path: Path, model: PreTrainedModel, unexpected: Iterable[str]
) -> list[str]:
    """Tensors and keys of a file that a model does not have.

    Args:
        model: as it will be saved; its weights are not looked at.
        unexpected: names of tensors that transformers itself told to be left over.
    """
    config = model.config
    rope_lacks = _rope_lacks(header, path, model)
    # The factors are in the frequencies, which are looked at for themselves.
    tensors = {*unexpected, *_unmapped(header, model)} - {FACTORS}
    architecture = f"{header.metadata.get('general.architecture')}."
    keys = {
        key
        for key, value in header.metadata.items()
        if key.startswith(architecture)
        and not _says_nothing(key.removeprefix(architecture), value, header)
        and not _has(config, key.removeprefix(architecture), value, header)
    }
    return sorted(tensors) + sorted(keys | rope_lacks | _scale_lacks(header, model))


def _says_nothing(key: str, value: Any, header: GgufHeader) -> bool:
    """Whether no configuration has to have the value of a key, whatever it is."""
    if key == "use_parallel_residual":
        # Converters write it for other architectures too; llama.cpp reads it of this one.
        return header.metadata.get("general.architecture") != "gptneox"
    if key == "tensor_data_layout":
        # Queries, keys and values of Falcon lie apart, where transformers takes them for a group
        # each KV head: with one head that is the same. The other is how every LLaMA's lie.
        heads = _of(header, "attention.head_count_kv", 0)
        return value == _ORIGINAL or (value == _GROUPED and heads == 1)
    return key in _SHOWN_BY_SHAPES | _BESIDE | {_SCALE} or key.startswith("rope.")


def _has(config: Any, key: str, value: Any, header: GgufHeader) -> bool:
    """Whether a configuration has the value of a key, or lacks it as llama.cpp lacks it."""
    if key == "expert_gating_func":
        return getattr(config, "scoring_func", "softmax") == _GATES.get(value)
    if key == "attention.sliding_window_pattern":
        return _same_pattern(getattr(config, "layer_types", None) or (), value)
    names = _SAME.get(key, ())
    held = [held for name in names if (held := getattr(config, name, None)) is not None]
    if key.endswith(("key_length", "value_length")) and not held:
        held = [config.hidden_size // config.num_attention_heads]
    if key == "attention.sliding_window" and (not held or value == 0):
        # 0 and a window as long as the model's texts are none; transformers' 0 hides all.
        return not held and (value == 0 or value >= _of(header, "context_length", math.inf))
    values: set[Any] = set(value) if isinstance(value, tuple) else {value}
    if not held or isinstance(value, tuple):
        values -= _NOTHING.get(key, {0})
    return all(any(math.isclose(one, other, rel_tol=1e-5) for other in held) for one in values)


def _attention_scale(header: GgufHeader) -> float:
    """By what llama.cpp multiplies the products of queries and keys."""
    architecture = header.metadata.get("general.architecture")
    if architecture == "gemma4":
        return 1.0
    if stated := _of(header, _SCALE, 0.0):
        return stated
    if _of(header, "block_count", 0) == _BLOCKS_OF_27B.get(str(architecture)):
        return _share(header) ** -0.5
    return _of(header, "attention.key_length", _share(header)) ** -0.5


def _scale_lacks(header: GgufHeader, model: PreTrainedModel) -> set[str]:
    """The key of the attention's scale, stated or not, where the model has another."""
    scales = [
        scale
        for module in model.modules()
        if isinstance(scale := getattr(module, "scaling", None), float)
    ]
    if scales:
        stated = _attention_scale(header)
        same = all(math.isclose(scale, stated, rel_tol=1e-5) for scale in scales)
    else:  # of architectures that do not tell it
        same = not _of(header, _SCALE, 0.0)
    return set() if same else {f"{header.metadata.get('general.architecture')}.{_SCALE}"}


def _same_pattern(kinds: Iterable[str], value: Any) -> bool:
    """Whether layers have a sliding window where a file says, by a flag each or by a period."""
    sliding = [kind == _SLIDING for kind in kinds]
    if isinstance(value, tuple):
        return sliding == [bool(one) for one in value]
    return sliding == [bool(value and (index + 1) % value) for index in range(len(sliding))]


def _unmapped(header: GgufHeader, model: PreTrainedModel) -> Iterator[str]:
    """Tensors that transformers' older reader has no name for; the newer one tells them."""
    from transformers import modeling_gguf_pytorch_utils as reader

    architecture = str(header.metadata.get("general.architecture"))
    try:
        from transformers.integrations.gguf.gguf_conversion_mapping import GGUF_ARCHS
    except ImportError:  # it came with 5.2x
        GGUF_ARCHS: Mapping[str, Any] = {}
    if architecture in GGUF_ARCHS:
        return
    processor = reader.TENSOR_PROCESSORS.get(architecture, reader.TensorProcessor)
    known = reader.get_gguf_hf_weights_map(model, processor(config=model.config.to_dict()))
    # Of experts, which are one parameter in place of a module, the name is the key.
    yield from (
        n for n in header.shapes if n not in known and n.removesuffix(".weight") not in known
    )


@dataclass(frozen=True)
class _Rope:
    """The rotary embedding that a file states, of layers that see everything.

    Attributes:
        theta: the base.
        dimensions: of a head that are rotated.
        kind: of scaling: none, linear, yarn, longrope.
        factor: of linear scaling.
        factors: ``(dimensions / 2,)``, by what each frequency is divided beside it.
        whole: False where the file has factors of another form.
    """

    theta: float
    dimensions: int
    kind: str
    factor: float
    factors: Tensor | None
    whole: bool = True

    @property
    def frequencies(self) -> Tensor:
        """``(dimensions / 2,)``, radians a position, in float64."""
        exponents = torch.arange(0, self.dimensions, 2, dtype=torch.float64) / self.dimensions
        scaled = self.theta**-exponents / (self.factor if self.kind == "linear" else 1.0)
        return scaled if self.factors is None else scaled / self.factors


def _stated_rope(header: GgufHeader, path: Path) -> _Rope:
    width = _of(header, "attention.key_length", _share(header))
    dimensions = _of(header, "rope.dimension_count", width)
    kind, begin = header.places.get(FACTORS, (None, 0))
    factors = None
    if kind == _FLOAT32 and 2 * math.prod(header.shapes[FACTORS]) == dimensions:
        values = np.fromfile(path, "<f4", dimensions // 2, offset=begin)
        factors = torch.from_numpy(values).double()
    return _Rope(
        theta=_of(header, "rope.freq_base", _THETA),
        dimensions=dimensions,
        kind=_of(header, "rope.scaling.type", "linear"),
        factor=_of(header, "rope.scaling.factor", _of(header, "rope.scale_linear", 0.0)) or 1.0,
        factors=factors,
        whole=kind is None or factors is not None,
    )


def _llama3(rope: _Rope) -> dict[str, Any]:
    """Llama 3's scaling, where it is what the factors were made with; else nothing.

    Llama 3.1, 3.2 and 3.3 differ in ``factor`` alone, which is the largest of the factors.
    """
    assert rope.factors is not None
    factor, low, high, length = float(rope.factors.max()), 1.0, 4.0, 8192
    turns = length / (2 * math.pi / replace(rope, factors=None, kind="none").frequencies)
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    made = 1 / ((1 - smooth) / factor + smooth)
    if not torch.allclose(made, rope.factors, rtol=1e-4):
        return {}
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": length,
    }


def _rope_lacks(header: GgufHeader, path: Path, model: PreTrainedModel) -> set[str]:
    """The keys, and the tensor, by which a file states other frequencies than the model has."""
    prefix = f"{header.metadata.get('general.architecture')}.rope."
    keys = {key.removeprefix(prefix) for key in header.metadata if key.startswith(prefix)}
    rope, tables = _stated_rope(header, path), _tables(model)
    lacks = keys - _FREQUENCIES - _SLIDING_FREQUENCIES - _NO_SCALING
    if rope.kind not in ("none", "linear"):
        lacks |= {key for key in keys if key.startswith("scaling.")}
    if _of(header, "rope.scaling.attn_factor", 1.0) == 1.0:
        lacks -= {"scaling.attn_factor"}
    sections = getattr(model.config, "rope_parameters", None) or {}
    if [n for n in _of(header, "rope.dimension_sections", ()) if n] == sections.get(_SECTIONS, []):
        lacks -= {"dimension_sections"}
    names = {f"{prefix}{key}" for key in lacks}
    stated = {f"{prefix}{key}" for key in keys & _FREQUENCIES} | {FACTORS} & header.shapes.keys()
    held = tables.get(_FULL, tables.get(""))
    nowhere = tables.keys() == {_SLIDING}  # no layer sees everything
    if stated and not nowhere and not (rope.whole and _same(rope.frequencies, held)):
        names |= stated
    if keys & _SLIDING_FREQUENCIES:
        sliding = _Rope(
            theta=_of(header, "rope.freq_base_swa", rope.theta),
            dimensions=_of(header, "rope.dimension_count_swa", rope.dimensions),
            kind="none",
            factor=1.0,
            factors=None,
        )
        if not _same(sliding.frequencies, tables.get(_SLIDING)):
            names |= {f"{prefix}{key}" for key in keys & _SLIDING_FREQUENCIES}
    return names


def _tables(model: PreTrainedModel) -> dict[str, Tensor]:
    """Kind of layer, empty where there is one → rotary frequencies, as the configuration says."""
    found: dict[str, Tensor] = {}
    for module in model.modules():
        names = [name for name, _ in module.named_buffers(recurse=False)]
        names = [n for n in names if n.endswith("inv_freq") and "original" not in n]
        if names:  # the model itself may lie on the meta device
            made: Any = type(module)(module.config)  # type: ignore[call-arg]
            found |= {n.removesuffix("inv_freq").rstrip("_"): getattr(made, n) for n in names}
    return found


def _same(stated: Tensor, held: Tensor | None) -> bool:
    """Whether frequencies are those of a model, which may hold zeros for what does not turn."""
    if held is None or len(held) < len(stated):
        return not len(stated)
    padded = torch.nn.functional.pad(stated, (0, len(held) - len(stated)))
    return torch.allclose(held.double(), padded, rtol=1e-4, atol=1e-12)


def _share(header: GgufHeader) -> int:
    """A head's share of the embedding; 0 in a model without heads, such as Mamba."""
    heads = _of(header, "attention.head_count", 1)
    heads = max(heads) if isinstance(heads, tuple) else heads
    return _of(header, "embedding_length", 0) // heads if heads else 0


def _of(header: GgufHeader, key: str, default: Any) -> Any:
    """The value of a key of the file's architecture."""
    return header.metadata.get(f"{header.metadata.get('general.architecture')}.{key}", default)
