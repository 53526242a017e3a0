"""What goes wrong in training."""

from tasks.processes.rank_errors import RankError


class TrainingError(RankError):
    """A worker process failed; the message holds which one and what it said."""
