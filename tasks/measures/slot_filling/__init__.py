"""Slot filling on annotated tweets: what sparsity costs on a task that one would ship."""

from tasks.measures.slot_filling.measure import SlotFilling

__all__ = ["SlotFilling"]
