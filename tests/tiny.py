"""Tiny random models of several architectures, for tests."""

from __future__ import annotations

import torch
import transformers
from transformers import PreTrainedModel

from tasks.models.architecture.decoder import describe
from tasks.pruning.core.blocks import Decoder

VOCABULARY = 97


def llama(**changes: object) -> PreTrainedModel:
    """LLaMA-like with grouped queries and tied embeddings."""
    settings = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 128,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
    } | changes
    return _made(transformers.LlamaForCausalLM, transformers.LlamaConfig(**settings))


def gpt_neox(**changes: object) -> PreTrainedModel:
    """Parallel attention and MLP, fused queries, keys and values, biases."""
    settings = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 128,
    } | changes
    return _made(transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig(**settings))


def gpt2() -> PreTrainedModel:
    """Conv1D layers, which store their weight transposed."""
    config = transformers.GPT2Config(
        n_embd=32,
        n_layer=2,
        n_head=4,
        vocab_size=VOCABULARY,
        n_positions=128,
        bos_token_id=1,
        eos_token_id=2,
    )
    return _made(transformers.GPT2LMHeadModel, config)


def opt() -> PreTrainedModel:
    """Biases and learned positions."""
    config = transformers.OPTConfig(
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=VOCABULARY,
        word_embed_proj_dim=32,
        max_position_embeddings=128,
    )
    return _made(transformers.OPTForCausalLM, config)


ARCHITECTURES = {
    "llama": (llama, "model.layers"),
    "gpt_neox": (gpt_neox, "gpt_neox.layers"),
    "gpt2": (gpt2, "transformer.h"),
    "opt": (opt, "model.decoder.layers"),
}


def decoder(name: str) -> Decoder:
    """A tiny random model of an architecture, as pruning sees it."""
    make, blocks = ARCHITECTURES[name]
    found = describe(make())
    assert found.blocks_name == blocks
    return found


def tokens(windows: int = 6, length: int = 16, seed: int = 0) -> torch.Tensor:
    """Random calibration windows."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (windows, length), generator=generator)


def _made(kind: type[PreTrainedModel], config: transformers.PreTrainedConfig) -> PreTrainedModel:
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    try:
        model = kind(config)
    finally:
        torch.random.set_rng_state(state)
    # Activations whose columns differ in size, as in trained models: else every score ties.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.5 * torch.rand(parameter.shape, generator=_generator()))
    return model.eval().requires_grad_(False)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)
