"""Tiny encoders with random weights, each with a tokenizer that frames texts as BERT's does."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import torch

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SIGNS = string.ascii_lowercase + string.digits + string.punctuation
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}


def tokenizer(words: tuple[str, ...] = ()) -> Any:
    """WordPiece of single signs and a few whole words, lower-cased."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = (*SPECIAL, *_SIGNS, *(f"##{sign}" for sign in _SIGNS), *words)
    core = Tokenizer(
        models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    roles = ("pad", "unk", "cls", "sep", "mask")
    named = {f"{role}_token": sign for role, sign in zip(roles, SPECIAL, strict=True)}
    return PreTrainedTokenizerFast(tokenizer_object=core, **named)


def config(kind: str = "Bert", **changes: Any) -> Any:
    """A tiny configuration of a family of transformers, such as ``Roberta``."""
    import transformers

    sizes = {**SIZES, "vocab_size": len(tokenizer()), **changes}
    if kind == "DistilBert":
        names = {
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
        }
        sizes = {names.get(name, name): value for name, value in sizes.items()}
    if kind.startswith("Deberta"):
        # V2 as version 3 is published: tokens and positions share their matrices.
        sizes |= {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
    if kind == "DebertaV2":
        sizes |= {"position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True}
        sizes |= changes
    if kind == "Electra":
        sizes["embedding_size"] = 16
    return getattr(transformers, f"{kind}Config")(**sizes)


def write(folder: Path, kind: str = "Bert", head: str = "Model", **changes: Any) -> Path:
    """Save one with its tokenizer.

    Args:
        head: what stands behind the family in the class's name: ``Model``, ``ForMaskedLM``.
    """
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}{head}")(config(kind, **changes))
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
