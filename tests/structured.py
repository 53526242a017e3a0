"""Tiny models whose heads and channels can be removed, and random removals."""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers

from tasks.models.architecture.decoder import describe
from tasks.pruning.core.structure import Kept, masked_weights, structure_of

VOCABULARY = 97
_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": None,
    "pad_token_id": 2,
}
_GROUPED = _COMMON | {"num_key_value_heads": 3, "head_dim": 16}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", _GROUPED),
    "tied": ("Llama", _GROUPED | {"tie_word_embeddings": True}),
    "biased": ("Llama", _GROUPED | {"attention_bias": True, "mlp_bias": True}),
    "single_queries": ("Llama", _GROUPED | {"num_key_value_heads": 6}),
    "mistral": ("Mistral", _GROUPED | {"sliding_window": 6}),
    "qwen2": ("Qwen2", _COMMON | {"num_key_value_heads": 3}),  # biases
    "qwen3": ("Qwen3", _GROUPED),  # a norm on each head's queries and keys
    "gemma2": ("Gemma2", _GROUPED | {"sliding_window": 6, "eos_token_id": 1}),
    "cohere": ("Cohere", _COMMON | {"num_key_value_heads": 3}),  # attention beside the MLP
    "granite": ("Granite", _GROUPED),
    "nemotron": ("Nemotron", _GROUPED),  # no gate
    "starcoder2": ("Starcoder2", _COMMON | {"num_key_value_heads": 3}),
    "phi": ("Phi", _COMMON | {"num_key_value_heads": 3}),
    "opt": ("OPT", _COMMON | {"ffn_dim": 40, "word_embed_proj_dim": 48}),
}
"""Name → what transformers calls it, and its configuration."""


def model_of(kind: str, **changes: Any) -> Any:
    """A random model whose blocks matter: transformers' own weights hardly move the logits."""
    name, settings = ARCHITECTURES[kind]
    if kind == "opt":
        settings = {key: value for key, value in settings.items() if key != "intermediate_size"}
    config = getattr(transformers, f"{name}Config")(**(settings | changes))
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.add_(0.3 * drawn)  # norms, and biases that are not zero
            else:
                parameter.copy_(0.15 * drawn)
    return model.eval().requires_grad_(False)


def random_kept(model: Any, seed: int, share: float = 0.5) -> tuple[Kept, ...]:
    """Other heads and channels in every block, and other numbers of them."""
    decoder = describe(model)
    structure = structure_of(decoder)
    generator = torch.Generator().manual_seed(seed)

    def some(count: int) -> torch.Tensor:
        flags = torch.rand(count, generator=generator) < share
        flags[torch.randint(count, (1,), generator=generator)] = True
        return flags

    return tuple(Kept(some(structure.groups), some(structure.channels)) for _ in decoder.blocks)


def masked(model: Any, kept: tuple[Kept, ...]) -> Any:
    """A copy of full size whose removed weights are zero."""
    copied = copy.deepcopy(model)
    copied.load_state_dict(dict(masked_weights(describe(copied), kept)), strict=False)
    return copied


def ids(batch: int = 2, length: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, VOCABULARY, (batch, length), generator=generator)


def parameters_without(model: Any, kept: tuple[Kept, ...]) -> int:
    """How many parameters are left, counted from the definition and not from a sliced model."""
    structure = structure_of(describe(model))
    attention, hidden = describe(model).blocks[0], model.config.hidden_size
    biases = {
        name: attention.get_submodule(name).bias is not None
        for name in (structure.query, structure.key, *structure.channel_in)
    }
    queries = structure.queries * structure.head_dim
    a_group = (2 * queries + 2 * structure.head_dim) * hidden
    a_group += biases[structure.query] * queries + biases[structure.key] * 2 * structure.head_dim
    a_channel = (len(structure.channel_in) + 1) * hidden
    a_channel += sum(biases[name] for name in structure.channel_in)
    removed = sum(
        int((~entry.groups_G).sum()) * a_group + int((~entry.channels_C).sum()) * a_channel
        for entry in kept
    )
    return sum(parameter.numel() for parameter in model.parameters()) - removed
