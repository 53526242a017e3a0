"""What a model calls each of its decoder blocks with, and what it takes back.

The model's own loop makes every block's masks, positions and rotary tables: its forward pass runs
with each block's ``forward`` replaced by a recorder that hands the hidden states on unchanged. So
a block whose attention slides, or whose rotary base is another, is called with its own.

Shapes: ``B`` windows, ``L`` tokens of a window, ``H`` hidden size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tasks.pruning.core.refusals import UnsupportedModelError

Form = int | None
"""What a block returns: so many items of which the hidden states are the first; None: a tensor."""
Memo = dict[int, tuple[Any, Any]]
"""``id`` of an object → the object, kept so that its id stays its own, and what became of it."""


@dataclass(frozen=True)
class Tables:
    """Tensors that blocks are called with and that have no row a token."""

    storages: Collection[int]

    def __contains__(self, inputs: Tensor) -> bool:
        """Whether a layer's input is a part of one."""
        return _storage(inputs) in self.storages


@dataclass(frozen=True)
class Call:
    """How a model calls one block on one batch, all but the hidden states.

    Attributes:
        keyword: the hidden states' name; None where they are the first positional argument.
        arguments: positional ones, those after the hidden states.
        keywords: all others.
    """

    keyword: str | None
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]

    def run(
        self, block: nn.Module, hidden_BLH: Tensor, weights: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The hidden states after ``block``, with ``weights`` in place of its own."""
        first = () if self.keyword else (hidden_BLH,)
        named = {self.keyword: hidden_BLH} if self.keyword else {}
        result = functional_call(
            block,
            dict(weights or {}),
            args=(*first, *self.arguments),
            kwargs=named | self.keywords,
        )
        return hidden_of(result)

    def to(self, device: torch.device, memo: Memo) -> Call:
        """The same call on ``device``; what is one object in several calls stays one."""
        return replace(
            self,
            arguments=_mapped(self.arguments, device, memo),
            keywords={name: _mapped(value, device, memo) for name, value in self.keywords.items()},
        )

    def sharing(self, other: Call, memo: Memo) -> Call:
        """The same call, whose tensors are ``other``'s where those are equal."""
        return replace(
            self,
            arguments=_shared(self.arguments, other.arguments, memo),
            keywords={
                name: _shared(value, other.keywords.get(name), memo)
                for name, value in self.keywords.items()
            },
        )

    def tables(self, hidden_BLH: Tensor) -> Tables:
        """What it hands over that is of no token, such as DeBERTa's relative embeddings."""
        return Tables(
            {
                _storage(tensor)
                for tensor in _tensors((self.arguments, self.keywords))
                if tensor.shape[:2] != hidden_BLH.shape[:2]
            }
            - {_storage(hidden_BLH)}
        )

    def versions(self) -> list[int]:
        """Of its tensors: each counts how often it was written to."""
        return [tensor._version for tensor in _tensors((self.arguments, self.keywords))]


def hidden_of(result: Any) -> Tensor:
    """The hidden states in what a block returned.

    Raises:
        UnsupportedModelError: no tensor, and no tuple or list that starts with one.
    """
    hidden = result[0] if isinstance(result, tuple | list) and result else result
    if not isinstance(hidden, Tensor):
        raise UnsupportedModelError(f"a block returns {type(result).__name__}, no hidden states")
    return hidden


def form_of(result: Any) -> Form:
    return len(result) if isinstance(result, tuple | list) else None


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Recorded(Exception):  # noqa: N818 (control flow, not an error)
    """Ends the model's forward pass once the last block's call is known."""


def recorded_calls(
    model: nn.Module, blocks: Sequence[nn.Module], ids_BL: Tensor, forms: Sequence[Form]
) -> tuple[Tensor, list[Call]]:
    """The hidden states before the first block, and how the model calls each block.

    Args:
        forms: what each block returns.

    Raises:
        UnsupportedModelError: blocks are not called in turn, with ``B × L × H`` hidden states.
    """
    found: list[tuple[Tensor, Call]] = []

    def recorder_of(index: int, block: nn.Module) -> Callable[..., Any]:
        parameters = inspect.signature(block.forward).parameters

        def forward(*args: Any, **keywords: Any) -> Any:
            if index != len(found):
                raise UnsupportedModelError(f"block {index} is called after block {len(found)}")
            hidden_BLH, call = _taken_apart(args, keywords, next(iter(parameters), ""))
            if hidden_BLH.ndim != 3 or hidden_BLH.shape[:2] != ids_BL.shape:
                shapes = f"{tuple(hidden_BLH.shape)} for {tuple(ids_BL.shape)} token ids"
                raise UnsupportedModelError(f"block {index} is called with a tensor of {shapes}")
            # The first is copied: what the model does in place between blocks must not reach it.
            found.append((hidden_BLH if found else hidden_BLH.clone(), call))
            if len(found) == len(blocks):
                raise _Recorded
            form = forms[index]
            return hidden_BLH if form is None else (hidden_BLH, *[None] * (form - 1))

        return forward

    with _forwards({block: recorder_of(i, block) for i, block in enumerate(blocks)}):
        try:
            model(input_ids=ids_BL, use_cache=False)
        except _Recorded:
            return found[0][0], [call for _, call in found]
    raise UnsupportedModelError(f"block {len(found)} is not called")


@contextmanager
def _forwards(replaced: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Modules with another ``forward``; one that a hook of Accelerate put there comes back."""
    before = {module: module.__dict__.get("forward") for module in replaced}
    try:
        for module, forward in replaced.items():
            module.forward = forward
        yield
    finally:
        for module, forward in before.items():
            if forward is not None:
                module.forward = forward
            else:
                module.__dict__.pop("forward", None)


def _taken_apart(
    args: tuple[Any, ...], keywords: dict[str, Any], first: str
) -> tuple[Tensor, Call]:
    """Hidden states and the rest of a call; ``first`` names the block's first parameter."""
    name = first if first in keywords else "hidden_states"
    hidden = args[0] if args else keywords.get(name)
    if not isinstance(hidden, Tensor):
        raise UnsupportedModelError(f"a block's first argument is {type(hidden).__name__}")
    if args:
        return hidden, Call(None, args[1:], keywords)
    return hidden, Call(name, (), {k: v for k, v in keywords.items() if k != name})


def _mapped(value: Any, device: torch.device, memo: Memo) -> Any:
    """``value`` with its tensors on ``device``; one object stays one, a dictionary of state too."""
    if id(value) in memo:
        return memo[id(value)][1]
    if isinstance(value, Tensor):
        moved = value.to(device)
    elif isinstance(value, dict):
        moved = {key: _mapped(item, device, memo) for key, item in value.items()}
    elif isinstance(value, tuple | list):
        moved = _like(value, [_mapped(item, device, memo) for item in value])
    else:
        return value
    memo[id(value)] = value, moved
    return moved


def _shared(value: Any, other: Any, memo: Memo) -> Any:
    """``value`` with ``other``'s tensors where the two are equal.

    Lists and dictionaries are left alone: blocks may hand state on to each other in them.
    """
    if id(value) in memo:
        return memo[id(value)][1]
    if isinstance(value, Tensor):
        same = (
            isinstance(other, Tensor)
            and (value.shape, value.dtype, value.device) == (other.shape, other.dtype, other.device)
            and torch.equal(value, other)
        )
        memo[id(value)] = value, (other if same else value)
        return memo[id(value)][1]
    if isinstance(value, tuple) and isinstance(other, tuple) and len(value) == len(other):
        pairs = zip(value, other, strict=True)
        return _like(value, [_shared(mine, its, memo) for mine, its in pairs])
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _like(value: tuple[Any, ...] | list[Any], items: list[Any]) -> Any:
    """``items`` in ``value``'s own type; a named tuple takes them one by one."""
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
