"""Tiny random models and a tokenizer trained on the spot: no network, no downloads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

VOCABULARY = 97


def config_of(kind: str, **changes: Any) -> Any:
    """A configuration of two small blocks in the architecture ``kind``."""
    import transformers

    common = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    llama = common | {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    gpt = common | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    opt = common | {
        "hidden_size": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 16,
    }
    neox = {key: value for key, value in llama.items() if key != "num_key_value_heads"}
    gemma = llama | {"head_dim": 8, "final_logit_softcapping": 0.05}
    neo = common | {"hidden_size": 32, "num_layers": 2, "num_heads": 4}
    neo |= {"attention_types": [[["global", "local"], 1]], "max_position_embeddings": 64}
    settings: dict[str, tuple[str, dict[str, Any]]] = {
        "llama": ("LlamaConfig", llama),
        "tied": ("LlamaConfig", llama | {"tie_word_embeddings": True}),
        "gpt_neox": ("GPTNeoXConfig", neox),
        "gpt_neo": ("GPTNeoConfig", neo),
        "opt": ("OPTConfig", opt),
        "gpt2": ("GPT2Config", gpt),
        "gemma2": ("Gemma2Config", gemma),
        "cohere": ("CohereConfig", llama | {"logit_scale": 0.3}),
        "granite": ("GraniteConfig", llama | {"logits_scaling": 7.0}),
        "mixtral": ("MixtralConfig", llama | {"num_local_experts": 2}),
        "mamba": ("MambaConfig", common | {"hidden_size": 32, "num_hidden_layers": 2}),
    }
    name, arguments = settings[kind]
    return getattr(transformers, name)(**(arguments | changes))


def model_of(kind: str, *, dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """A random model; weights are large enough for logits to differ."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(kind, **changes))
    return model.to(dtype).eval().requires_grad_(False)


def tokenizer() -> Any:
    """Byte-level BPE with 94 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>"]
    trainer = trainers.BpeTrainer(vocab_size=94, special_tokens=special, show_progress=False)
    core.train_from_iterator(["the quick brown fox jumps over the lazy dog"] * 4, trainer)
    names = dict(zip(("bos_token", "eos_token", "pad_token"), special, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=core, **names)


@pytest.fixture
def make_model() -> Callable[..., Any]:
    return model_of


@pytest.fixture
def make_config() -> Callable[..., Any]:
    return config_of


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a whole model folder and returns it."""

    def make(kind: str = "llama", name: str = "model", **options: Any) -> Path:
        folder = tmp_path / name
        shard_size = options.pop("max_shard_size", "1GB")
        model_of(kind, **options).save_pretrained(folder, max_shard_size=shard_size)
        tokenizer().save_pretrained(folder)
        return folder

    return make


@pytest.fixture
def probe() -> torch.Tensor:
    """Token ids, 2 × 16."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, VOCABULARY, (2, 16), generator=generator)
