"""Dropout that does not depend on how many processes share a batch.

Each process draws the numbers of the whole batch, as one process alone would, and uses those of its
own rows. So all stay at the same place of the same random sequence, and the figures of several
processes differ from those of one by rounding only.

Cards of one kind draw alike; of unlike ones the masks are not one process's.

What is drawn is caught below autograd, where dropout of any form is a Bernoulli draw (CPU) or
``native_dropout`` (CUDA). Attention's fused kernels draw inside, out of reach:
:class:`PlainAttention` keeps them from doing so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tasks.models.errors import UnsupportedModelError

_BERNOULLI = torch.ops.aten.bernoulli_.float
_DROPOUT = torch.ops.aten.native_dropout.default


def plain_attention(device: torch.device) -> AbstractContextManager[Any]:
    """Where attention drops by itself and not inside a fused kernel; on a CPU it always does."""
    return PlainAttention() if device.type == "cuda" else nullcontext()


class PlainAttention(TorchFunctionMode):
    """Attention with dropout is computed step by step; without, by whatever kernel is best."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.functional.scaled_dot_product_attention:
            dropout = kwargs.get("dropout_p", args[4] if len(args) > 4 else 0.0)
            if dropout:
                with sdpa_kernel(SDPBackend.MATH):
                    return func(*args, **kwargs)
        return func(*args, **kwargs)


class SharedDraws(TorchDispatchMode):
    """Within, dropout is that of a batch of which only some rows are computed.

    Args:
        whole: rows of all processes together.
        rows: which of them are computed here.
        by_row: of each draw, in order, whether its first dimension is the rows'; see
            :func:`draws_by_row`.

    Raises:
        UnsupportedModelError: within, by a draw that cannot be shared.
    """

    def __init__(self, whole: int, rows: Sequence[int], by_row: Sequence[bool]) -> None:
        super().__init__()
        self._whole, self._rows, self._by_row = whole, list(rows), iter(by_row)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not _draws(func, args, kwargs):
            return func(*args, **kwargs)
        by_row = next(self._by_row, None)
        if by_row is False:
            return func(*args, **kwargs)
        given = args[0]
        if by_row is None or len(given) != len(self._rows):
            raise _refusal("another number of times, or over other rows, in every pass")
        if func is _BERNOULLI:
            return given.copy_(func(self._grown(given), *args[1:], **kwargs)[self._rows])
        if func is _DROPOUT:
            whole, mask = func(self._grown(given).fill_(1), *args[1:], **kwargs)
            return given * whole[self._rows], mask[self._rows]
        raise _refusal(f"by {func}")

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        super().__exit__(kind, error, trace)
        if error is None and next(self._by_row, None) is not None:
            raise _refusal("another number of times in every pass")

    def _grown(self, given: Tensor) -> Tensor:
        """Uninitialised, as many rows as all processes have, laid out as ``given``."""
        layout = sorted(range(given.ndim), key=lambda axis: -given.stride(axis))
        shape = (self._whole, *given.shape[1:])
        return torch.empty_permuted(shape, layout, dtype=given.dtype, device=given.device)


def draws_by_row(run: Callable[[int], object]) -> list[bool]:
    """Of each draw of a forward pass, whether its first dimension is the rows'.

    Others are of no row, such as dropout on a table of relative positions: all processes draw them
    alike.

    Args:
        run: a forward pass over so many rows, of one and the same example.

    Raises:
        UnsupportedModelError: rows lie otherwise in what is drawn.
    """
    one, two = _shapes(run, 1), _shapes(run, 2)
    kinds = []
    for alone, both in zip(one, two, strict=False):
        if alone != both and (alone[:1] != (1,) or both != (2, *alone[1:])):
            raise _refusal(f"over {list(alone)} for one example and {list(both)} for two")
        kinds.append(alone != both)
    if len(one) != len(two):
        raise _refusal("more often for two examples than for one")
    return kinds


def _shapes(run: Callable[[int], object], rows: int) -> list[tuple[int, ...]]:
    """Of all that is drawn; the random numbers are as before afterwards."""
    listening = _Listening()
    devices = range(torch.cuda.device_count())
    with torch.no_grad(), torch.random.fork_rng(devices=devices), listening:
        run(rows)
    return listening.shapes


class _Listening(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if _draws(func, args, kwargs or {}):
            first = made if isinstance(made, Tensor) else made[0]
            self.shapes.append(tuple(first.shape))
        return made


def _draws(func: Any, args: Sequence[Any], kwargs: Any) -> bool:
    """Whether an operation takes random numbers; an attention kernel does with dropout alone."""
    if torch.Tag.nondeterministic_seeded not in func.tags:
        return False
    for place, argument in enumerate(func._schema.arguments):
        if argument.name == "dropout_p":
            given = args[place] if place < len(args) else argument.default_value
            return bool(kwargs.get("dropout_p", given))
    return True


def _refusal(how: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"while it is tuned the model draws random numbers {how}, which processes cannot share: "
        "tune it in one (evaluation.processes: 1)"
    )
