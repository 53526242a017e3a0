"""Several GPUs where there is none: tensors of the CPU that say they are on a card.

As on real cards, an operation on tensors of two of them is refused, but for copies and scalars.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate import dispatch_model
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

CPU = torch.device("cpu")
_CARD = "_card"
_OF_DEVICES = (torch.device, torch._C._nn._parse_to)  # type: ignore[attr-defined]
_OF_TWO = (Tensor.data.__set__, torch._has_compatible_shallow_copy_type)  # type: ignore[attr-defined]


def card(index: int) -> torch.device:
    return torch.device("cuda", index)


def spread(model: Any, places: Mapping[str, torch.device]) -> Any:
    """``model`` with Accelerate's hooks, as ``device_map: auto`` leaves it; within :class:`Cards`.

    Args:
        places: module → its card; they hold all weights.
    """
    for name, device in places.items():
        module = model.get_submodule(name)
        for tensor in (*module.parameters(), *module.buffers()):
            setattr(tensor, _CARD, device)
    return dispatch_model(model, dict(places), main_device=card(0), force_hooks=True)


class Cards(TorchFunctionMode):
    """While it is entered, tensors are where they were made or moved to."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        kwargs = dict(kwargs or {})
        if function == Tensor.device.__get__:  # type: ignore[attr-defined]
            return _card_of(args[0])
        if function == Tensor.data.__set__:  # type: ignore[attr-defined]
            setattr(args[0], _CARD, _card_of(args[1]))
        if function in _OF_DEVICES:
            return function(*args, **kwargs)
        place = _place(function, [t for t in tree_leaves((args, kwargs)) if _is_tensor(t)])
        if function is Tensor.to and len(args) > 1 and _is_tensor(args[1]):
            place = _card_of(args[1])
        for named in filter(_is_device, (*args, *kwargs.values())):
            place = named
        args, kwargs = tree_map_only(torch.device, _real, (args, kwargs))
        result = function(*args, **kwargs)
        if function is Tensor.to and result is args[0] and place != _card_of(result):
            result = result.clone()  # what is moved stays where it is as well
        for leaf in filter(_is_tensor, tree_leaves(result)):
            setattr(leaf, _CARD, place)
        return result


def _place(function: Callable[..., Any], given: list[Tensor]) -> torch.device:
    """Where a function of these is computed."""
    if function is Tensor.cpu:
        return CPU
    if function in (Tensor.to, Tensor.copy_):
        return _card_of(given[0])
    # A scalar of the CPU goes with any card.
    found = {place for t in given if (place := _card_of(t)) != CPU or t.dim()}
    if len(found) > 1 and function not in _OF_TWO:
        raise RuntimeError(f"Expected all tensors to be on the same device: {found}")
    return next(iter(found), CPU)


def _card_of(tensor: Tensor) -> torch.device:
    return vars(tensor).get(_CARD, tensor.device)


def _real(device: torch.device) -> torch.device:
    return CPU if device.type == "cuda" else device


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _is_device(value: Any) -> bool:
    return isinstance(value, torch.device)
