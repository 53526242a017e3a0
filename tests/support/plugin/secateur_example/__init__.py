"""A pruning method and a measure that secateur finds once this package is installed."""
