"""Tunes every model of a sweep for a task of one's own, what was pruned held at zero."""
