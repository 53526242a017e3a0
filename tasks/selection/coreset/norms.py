"""Sums of squares of every linear layer's input columns, window by window: what Wanda looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tasks.selection.positions import evenly

_HELD = 256 * 2**20
"""Bytes that the sums of all windows may take; of larger pools evenly spaced columns are kept."""


def column_squares(
    modules: Mapping[str, nn.Module],
    forward: Callable[[Tensor], Any],
    windows_NT: Tensor,
    *,
    batch: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """``N × C``, float32: of each window, over its tokens.

    Layers that do not see windows one by one, such as a mixture's experts, are left out.

    Args:
        forward: runs the model on windows; what it returns is not looked at.

    Raises:
        ValueError: no layer sees the windows one by one.
    """
    found_NC: Tensor | None = None
    done = 0
    for part_NT in windows_NT.split(batch):
        with _watched(modules, len(part_NT)) as squares, torch.no_grad():
            forward(part_NT)
        if not squares:
            raise ValueError("no linear layer sees the windows one by one")
        all_NC = torch.cat([squares[name] for name in modules if name in squares], dim=1)
        most = max(1, _HELD // (4 * len(windows_NT)))
        kept_NC = all_NC.cpu()[:, evenly(all_NC.shape[1], min(most, all_NC.shape[1]))]
        if found_NC is None:
            found_NC = torch.empty((len(windows_NT), kept_NC.shape[1]))
        found_NC[done : done + len(part_NT)] = kept_NC
        done += len(part_NT)
        progress(done, len(windows_NT))
    assert found_NC is not None, "there are windows"
    return found_NC


@contextmanager
def _watched(modules: Mapping[str, nn.Module], windows: int) -> Iterator[dict[str, Tensor]]:
    squares: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def see(_: nn.Module, given: tuple[Any, ...]) -> None:
            x_NTI = given[0]
            if x_NTI.ndim == 3 and len(x_NTI) == windows:
                squares[name] = x_NTI.detach().to(torch.float32).square().sum(dim=1)

        return see

    handles = [module.register_forward_pre_hook(watch(name)) for name, module in modules.items()]
    try:
        yield squares
    finally:
        for handle in handles:
            handle.remove()
