"""Tiny random models of every decoder-only family of the installed transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tasks.models.architecture.decoder import describe
from tasks.models.errors import UnsupportedModelError
from tasks.pruning.core import driver
from tasks.pruning.core.blocks import BlockAtWork, Decoder, walk
from tasks.pruning.core.layers import expert_tensors, is_fused_experts
from tasks.pruning.core.sparsity import layer_sparsity, sparsity
from tasks.pruning.core.targets import Fraction
from tasks.pruning.full_obs import FullOBS
from tasks.pruning.magnitude import Magnitude
from tasks.pruning.sketched_obs.method import SketchedOBS
from tasks.pruning.sparsegpt import SparseGPT
from tasks.pruning.swiftprune.method import SwiftPrune
from tasks.pruning.wanda import Wanda

VOCABULARY = 97
WINDOW = 8
"""Tokens that sliding attention sees, in every family that has it."""

_SIZES: dict[str, Any] = {
    **dict.fromkeys(
        ("vocab_size", "unpadded_vocab_size", "vocab_size_per_layer_input"), VOCABULARY
    ),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embedding_size", "emb_dim"), 32),
    **dict.fromkeys(("word_embed_proj_dim", "embedding_dim", "attention_hidden_size"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "dff", "dim_ff", "feed_forward_size"), 48),
    **dict.fromkeys(("ffn_hidden_size", "decoder_ffn_dim", "intermediate_size_mlp"), 48),
    **dict.fromkeys(("dense_intermediate_size", "shared_intermediate_size"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 24),
    **dict.fromkeys(("expert_ffn_hidden_size", "shared_experts_intermediate_size"), 24),
    "moe_shared_expert_intermediate_size": 24,
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "swa_num_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), 2),
    **dict.fromkeys(("head_dim", "dim_head", "kv_channels", "swa_head_dim"), 8),
    **dict.fromkeys(("attention_head_dim", "v_head_dim", "global_head_dim"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "rotary_dim"), 8),
    "qk_head_dim": 16,
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank"), 16),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_window_size"), WINDOW),
    **dict.fromkeys(("window_size", "attention_chunk_size", "local_attention"), WINDOW),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts"), 4),
    "moe_num_experts": 4,
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "num_experts_per_token"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group"), 1),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"), 2),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 8),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 8),
    **dict.fromkeys(("index_head_dim", "hidden_size_per_layer_input"), 8),
    **dict.fromkeys(("index_n_heads", "num_query_groups"), 2),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), 128),
    **dict.fromkeys(("model_max_length", "context_length"), 128),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "max_window_layers"), 1),
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "is_decoder": True,
    "use_sliding_window": True,
}
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")
_EVEN_IF_NONE = ("head_dim", "num_key_value_heads", "sliding_window")
_LARGEST = 2_000_000
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
_OWN: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": _ROPE, "sliding_attention": _ROPE}
    },
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {"intermediate_size": 48, "num_kv_shared_layers": 2},
    "gemma4_text": {"num_kv_shared_layers": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_head_dim": 16, "attention_hidden_size": 64},
    "zamba2": {"attention_head_dim": 16, "attention_hidden_size": 64},
    "zaya": {"num_experts_per_tok": 1},
}
"""What a family needs besides."""
_SLIDES = ["sliding_attention", "full_attention"]


def names() -> list[str]:
    """Families with a causal language model that is a text decoder and nothing else."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    found = []
    for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        if name.endswith("_assistant"):  # drafts from another model's hidden states
            continue
        config = CONFIG_MAPPING[name]()
        if not config.is_encoder_decoder and config.get_text_config(decoder=True) is config:
            found.append(name)
    return found


def config_of(family: str) -> Any:
    """A configuration of four small blocks, with every kind of layer that the family has."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = CONFIG_MAPPING[family]
    default = kind().to_dict()
    sizes = {name: size for name, size in _SIZES.items() if default.get(name) is not None}
    sizes |= {name: _SIZES[name] for name in _EVEN_IF_NONE if name in default}
    if default.get("kv_lora_rank"):
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]  # latent attention: no groups
    count = max(4, len(set(default.get("layer_types") or ())))
    sizes |= dict.fromkeys((name for name in _LAYERS if name in default), count)
    for name, value in default.items():
        if isinstance(value, list) and len(value) == default.get("num_hidden_layers"):
            each = list(dict.fromkeys(value))
            if {*each} <= {*_SLIDES} and "sliding_window" in default:
                each = _SLIDES
            sizes[name] = [each[index % len(each)] for index in range(count)]
    return kind(**(sizes | _OWN.get(family, {})))


def model_of(family: str) -> Any:
    """A random model whose blocks change the hidden states much, so that differences show."""
    from transformers import AutoModelForCausalLM

    config = config_of(family)
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > _LARGEST:
        raise ValueError(f"{size} parameters are too many for a test")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(0, module.weight.shape[1] ** -0.5)
            elif is_fused_experts(module):
                for tensor in expert_tensors(module):
                    getattr(module, tensor).normal_(0, 0.2)
    return model.eval().requires_grad_(False)


def windows(count: int = 3, length: int = 3 * WINDOW) -> Tensor:
    """Random token ids, longer than any window that attention slides over."""
    return torch.randint(3, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def worst_difference(decoder: Decoder, tokens_NL: Tensor, *, batch: int = 2) -> float:
    """Between the unpruned walk and the model's forward pass, relative, over all blocks."""
    own: list[Tensor] = []

    def keep(_: nn.Module, args: Any, result: Any) -> None:
        del args
        own.append((result if isinstance(result, Tensor) else result[0]).clone())

    hooks = [block.register_forward_hook(keep) for block in decoder.blocks]
    decoder.model(input_ids=tokens_NL, use_cache=False)
    for hook in hooks:
        hook.remove()
    walked: list[Tensor] = []

    def visit(block: BlockAtWork) -> None:
        block.run()
        walked.append(torch.cat(block.advance()))

    walk(decoder, tokens_NL, visit, batch=batch)
    pairs = zip(walked, own, strict=True)
    return max(float((mine - its).abs().max() / its.abs().max()) for mine, its in pairs)


@dataclass(frozen=True)
class Verdict:
    """What became of one family.

    Attributes:
        outcome: ``right``, ``refused`` or ``not built``.
        reason: of a refusal, or why no tiny model could be built.
        exempt: what in the blocks is neither pruned nor counted.
    """

    family: str
    architecture: str
    outcome: str
    reason: str = ""
    exempt: tuple[str, ...] = ()


def verdict_of(family: str) -> Verdict:
    """Build, walk and prune a family's tiny model.

    Raises:
        AssertionError: the walk differs from the model, or a method misses the sparsity.
        Exception: whatever else goes wrong once the model itself runs.
    """
    tokens_NL = windows()
    try:
        model = model_of(family)
        with torch.no_grad():
            model(input_ids=tokens_NL, use_cache=False)
    except Exception as error:  # noqa: BLE001 (whatever keeps transformers from building it)
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return Verdict(family, "", "not built", reason)
    return judged(family, model, tokens_NL)


def judged(family: str, model: Any, tokens_NL: Tensor) -> Verdict:
    """Walk and prune a model that runs; raises as :func:`verdict_of`."""
    name = type(model).__name__
    try:
        decoder = describe(model)
        _prune(decoder, tokens_NL)
    except UnsupportedModelError as error:
        return Verdict(family, name, "refused", str(error))
    return Verdict(family, name, "right", exempt=tuple(decoder.exempt()))


def _prune(decoder: Decoder, tokens_NL: Tensor) -> None:
    difference = worst_difference(decoder, tokens_NL)
    assert difference <= 1e-5, f"the walk is {difference:.1e} away from the model"
    sketched = SketchedOBS(directions=4)
    statistics = driver.collect_statistics(decoder, tokens_NL, sketch=sketched.sketch)
    one_shot = (
        Magnitude(),
        Wanda(),
        SparseGPT(),
        SwiftPrune(selection="exact"),
        sketched,
        FullOBS(),
    )
    for method in one_shot:
        weights = driver.prune(
            method, decoder, Fraction(0.5), tokens_NL=tokens_NL, statistics=statistics
        ).weights
        reached = sparsity(decoder, layer_sparsity(decoder, weights))
        assert abs(reached - 0.5) <= 0.005, f"{method.name} reaches {reached}"
