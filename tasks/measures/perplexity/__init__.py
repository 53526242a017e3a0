"""Perplexity on windows of text, and agreement with the dense model in the same pass."""
