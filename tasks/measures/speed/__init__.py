"""How fast a model reads a prompt and generates, on this hardware."""

from tasks.measures.speed.measure import Speed

__all__ = ["Speed"]
