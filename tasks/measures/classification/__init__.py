"""Text classification: what sparsity costs on labelled texts of one's own."""

from tasks.measures.classification.measure import TextClassification

__all__ = ["TextClassification"]
