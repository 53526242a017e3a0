"""How sure a pruned model's answers are, without labels: LiDu over an ensemble of prunings."""

from tasks.measures.uncertainty.across import UncertaintyAcross
from tasks.measures.uncertainty.measure import Uncertainty

__all__ = ["Uncertainty", "UncertaintyAcross"]
