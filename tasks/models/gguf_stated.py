"""What a GGUF file states and the model that transformers builds of it lacks.

transformers reads a list of keys and tensors for each architecture and passes over all others
without a word: a rotary base of StarCoder2, any scaling of it, a softcap, a bias. What they mean is
llama.cpp's: ``src/llama-arch.cpp`` names them, ``src/llama-model.cpp`` has the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.models.gguf_rope import FACTORS, SLIDING, rope_lacks
from tasks.models.sources.gguf_header import GgufHeader

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
    return sorted(tensors) + sorted(
        keys | rope_lacks(header, path, model) | _scale_lacks(header, model)
    )


def _says_nothing(key: str, value: Any, header: GgufHeader) -> bool:
    """Whether no configuration has to have the value of a key, whatever it is."""
    if key == "use_parallel_residual":
        # Converters write it for other architectures too; llama.cpp reads it of this one.
        return header.metadata.get("general.architecture") != "gptneox"
    if key == "tensor_data_layout":
        # Queries, keys and values of Falcon lie apart, where transformers takes them for a group
        # each KV head: with one head that is the same. The other is how every LLaMA's lie.
        heads = header.of("attention.head_count_kv", 0)
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
        return not held and (value == 0 or value >= header.of("context_length", math.inf))
    values: set[Any] = set(value) if isinstance(value, tuple) else {value}
    if not held or isinstance(value, tuple):
        values -= _NOTHING.get(key, {0})
    return all(any(math.isclose(one, other, rel_tol=1e-5) for other in held) for one in values)


def _attention_scale(header: GgufHeader) -> float:
    """By what llama.cpp multiplies the products of queries and keys."""
    architecture = header.metadata.get("general.architecture")
    if architecture == "gemma4":
        return 1.0
    if stated := header.of(_SCALE, 0.0):
        return stated
    if header.of("block_count", 0) == _BLOCKS_OF_27B.get(str(architecture)):
        return header.share**-0.5
    return header.of("attention.key_length", header.share) ** -0.5


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
        same = not header.of(_SCALE, 0.0)
    return set() if same else {f"{header.metadata.get('general.architecture')}.{_SCALE}"}


def _same_pattern(kinds: Iterable[str], value: Any) -> bool:
    """Whether layers have a sliding window where a file says, by a flag each or by a period."""
    sliding = [kind == SLIDING for kind in kinds]
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
