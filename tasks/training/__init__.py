"""The training engine of methods that retrain: processes, precision, checkpoints."""
