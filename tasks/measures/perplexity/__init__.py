"""Perplexity on windows of text, and agreement with the dense model in the same pass."""

from tasks.measures.perplexity.measure import Perplexity

__all__ = ["Perplexity"]
