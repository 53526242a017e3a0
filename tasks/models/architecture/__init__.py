"""How a decoder is built: its blocks, its heads and channels, its LM head."""
