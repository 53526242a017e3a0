"""A network on disk: the body as ``from_pretrained`` loads it, and the head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.measures.tuning.network import TaskNetwork
from tasks.models.quiet import quiet

_HEAD = "head.safetensors"


def save_body(network: TaskNetwork, folder: Path) -> None:
    """The model without the head that was tuned on it."""
    model: Any = network.model
    with quiet():
        if getattr(model, "generation_config", None) is not None:
            # It plays no part here, and saving one that only warns would be refused.
            model.generation_config = type(model.generation_config)()
        model.save_pretrained(folder)


def save_head(network: TaskNetwork, folder: Path) -> None:
    """What :func:`load_head_` reads."""
    from safetensors.torch import save_file

    told = {name: tensor.cpu() for name, tensor in network.head.state_dict().items()}
    save_file(told, folder / _HEAD)


def load_head_(network: TaskNetwork, folder: Path) -> None:
    """Give the network the head that was saved there."""
    from safetensors.torch import load_file

    network.head.load_state_dict(load_file(folder / _HEAD))
