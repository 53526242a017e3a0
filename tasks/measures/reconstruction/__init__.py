"""How far each pruned layer's outputs are from the dense one's."""

from tasks.measures.reconstruction.measure import Reconstruction

__all__ = ["Reconstruction"]
