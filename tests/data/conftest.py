"""Tokenizers built on the spot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog")


@pytest.fixture
def make_tokenizer() -> Callable[..., Any]:
    """A word-level tokenizer; ``template`` is what it wraps a text in by default."""

    def make(template: str = "$A", **names: str) -> Any:
        from tokenizers import Tokenizer, models, pre_tokenizers, processors
        from transformers import PreTrainedTokenizerFast

        special = ("<unk>", "<s>", "</s>", "[X]")
        vocabulary = {word: index for index, word in enumerate((*special, *WORDS, "a"))}
        core = Tokenizer(models.WordLevel(vocabulary, unk_token=special[0]))
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        marks = [(mark, vocabulary[mark]) for mark in special]
        core.post_processor = processors.TemplateProcessing(single=template, special_tokens=marks)
        return PreTrainedTokenizerFast(tokenizer_object=core, unk_token=special[0], **names)

    return make
