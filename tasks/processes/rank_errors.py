"""What goes wrong where several processes work together."""


class RankError(RuntimeError):
    """A worker process failed; the message holds which one and what it said."""
