"""From a dense model to a compressed checkpoint, as steps: statistics, pruning, retraining."""
