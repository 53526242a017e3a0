"""``tiny-random``: a LLaMA-like model with random weights, made from a seed in a second.

It shows that an installation works and lets tests run whole sweeps; its figures mean nothing.
Tokens are bytes, so any text has as many as it has UTF-8 bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import LlamaConfig

NAME = "tiny-random"
RECIPE: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
"""What determines the weights, with the seed and version below."""
SEED = 0
VERSION = 1


def identity() -> dict[str, Any]:
    """Everything that determines the model, for its digest."""
    return {"random": RECIPE, "seed": SEED, "version": VERSION}


def config() -> LlamaConfig:
    from transformers import LlamaConfig

    return LlamaConfig(**RECIPE)


def tokenizer() -> Any:
    """One token a byte, no special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({symbol: index for index, symbol in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=core)


def write(out: Path) -> None:
    """Write the model as a plain Hugging Face folder."""
    import torch
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM(config())
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            # Norms around 1 with some spread, so that columns differ in size as in trained models.
            parameter.copy_(1 + 0.3 * drawn if "norm" in name else 0.08 * drawn)
    model.save_pretrained(out)
    tokenizer().save_pretrained(out)
