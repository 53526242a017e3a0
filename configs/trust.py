"""What a model's files may do."""

from __future__ import annotations

from configs.frozen import Frozen


class Trust(Frozen):
    """What a model's files may do. Off unless you trust where they come from."""

    remote_code: bool = False
    """Run Python code that comes with a hub model or folder."""
    pickle_weights: bool = False
    """Load .bin and .pt weights; pickle can run any code."""
    unread_weights: bool = False
    """Use a model although weights of its files, such as biases, or keys of a GGUF stay unread."""
