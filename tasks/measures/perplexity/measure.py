"""Perplexity as a measure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from configs.corpora import Corpus
from configs.frozen import Frozen, unique
from tasks.measures.base import Measure


class Corpora(Frozen):
    """One corpus to measure perplexity on."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] = "python-docs"
    """Names the result's column: perplexity/<name>."""
    corpus: Corpus = Corpus()
    """Where the text comes from."""
    sequence_length: Annotated[int, Field(ge=2)] = 512
    """Tokens of a window; windows follow each other without overlap, from the start."""
    windows: Annotated[int, Field(ge=1)] | None = None
    """How many windows; empty: all that the corpus holds."""


def _unique_names(entries: tuple[Corpora, ...]) -> tuple[Corpora, ...]:
    unique(tuple(entry.name for entry in entries))
    return entries


class PerplexitySettings(Frozen):
    """Which corpora perplexity is measured on."""

    perplexity: Annotated[
        tuple[Corpora, ...], Field(min_length=1), AfterValidator(_unique_names)
    ] = (Corpora(windows=32),)
    """The corpora to measure perplexity on."""


class Perplexity(Measure):
    """how well the model predicts a text: exp of the mean loss of a token"""

    name = "perplexity"
    summary = "how well the model predicts a text: exp of the mean loss of a token"
    Settings = PerplexitySettings

    def columns(self, found: Any) -> Any:
        raise NotImplementedError

    def figures(self, columns: Any) -> Any:
        raise NotImplementedError
