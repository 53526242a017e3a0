"""How fast a model reads a prompt and generates, on this hardware."""
