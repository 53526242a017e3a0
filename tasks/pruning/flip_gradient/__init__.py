"""Flip gradient: what each head and each share of channels is worth, measured by flipping it."""
