"""Whether a tokenizer splits text as its model was trained to, as far as transformers doubts it."""

from __future__ import annotations

from pathlib import Path

from configs.trust import Trust
from tasks.models.load import load_config, load_tokenizer

_FAMILIES = frozenset({"mistral", "mistral3", "ministral", "pixtral", "voxtral"})
_TEKKEN = 100_000
"""Tokens. Mistral's vocabularies above are byte-level ones; transformers doubts no smaller one."""
_PROBE = ("eBay", "NaOH", "iPhone", "1984", "and/or", "camelCase", "the", "HTTPServer")
"""Capitals, digits and slashes are where the two ways to split differ."""


def doubted_split(folder: Path, trust: Trust, vocabulary: int) -> str:
    """Why a folder's tokens may be others than its model's; empty where nothing speaks for it.

    Mistral's ``tokenizer.json`` files were converted with another pattern to split text by than
    its own, until transformers 5 (huggingface/transformers#42299). transformers only warns, and
    of any large vocabulary in such a folder: so both ways are tried.

    Args:
        vocabulary: rows of the model's embedding.

    Raises:
        UnsupportedModelError: the tokenizer cannot be loaded.
    """
    if vocabulary <= _TEKKEN or load_config(folder, trust).model_type not in _FAMILIES:
        return ""
    given = load_tokenizer(folder, trust)
    doubted = getattr(getattr(given, "backend_tokenizer", None), "fix_mistral_regex", None)
    if doubted is not False:  # it is set where transformers warns
        return ""
    corrected = load_tokenizer(folder, trust, fix_mistral_regex=True)
    others = [word for word in _PROBE if given(word).input_ids != corrected(word).input_ids]
    if not others:
        return ""
    return (
        f"its tokenizer splits {', '.join(others[:3])} otherwise than Mistral's own, by a pattern "
        "that transformers calls wrong. What is measured is of the tokens that the folder makes, "
        "as stock from_pretrained makes them. For the corrected ones: AutoTokenizer."
        "from_pretrained(FOLDER, fix_mistral_regex=True).save_pretrained(FOLDER)"
    )
