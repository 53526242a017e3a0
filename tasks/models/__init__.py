"""Models: what a name means, how a decoder is built, what is written and read back."""
