"""What goes wrong in training."""


class TrainingError(RuntimeError):
    """A worker process failed; the message holds which one and what it said."""
