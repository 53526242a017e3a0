"""Token classification: what sparsity costs on sentences whose words are labelled."""

from tasks.measures.token_classification.measure import TokenClassification

__all__ = ["TokenClassification"]
