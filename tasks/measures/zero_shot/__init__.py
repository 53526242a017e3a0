"""Zero-shot tasks of lm-evaluation-harness, as a library: no code of a task runs without trust."""

from tasks.measures.zero_shot.measure import ZeroShot

__all__ = ["ZeroShot"]
