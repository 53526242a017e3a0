"""A function of tensors whose kernels a GPU is sent as one.

Loops over columns launch thousands of kernels that each take less time than their launch. A CUDA
graph records them once, on buffers of its own, and replays them with a single launch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_WARM_UPS = 2
"""Libraries set themselves up in their first calls, which no graph may hold."""


class Replayed:
    """``function``, which changes its arguments in place and returns nothing, on CUDA.

    Args:
        function: of tensors alone; must not read a value on the host.
        like: arguments whose shapes, types and device all later calls share.
    """

    def __init__(self, function: Callable[..., None], like: Sequence[Tensor]) -> None:
        self._buffers = [torch.zeros_like(tensor).contiguous() for tensor in like]
        device = like[0].device
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function(*self._buffers)
        torch.cuda.current_stream(device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Another thread may allocate meanwhile: it brings the next block.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            function(*self._buffers)

    def __call__(self, arguments: Sequence[Tensor], changed: Sequence[int]) -> None:
        """Call the function.

        Args:
            changed: places of the arguments that it changes.
        """
        for buffer, given in zip(self._buffers, arguments, strict=True):
            buffer.copy_(given)
        self._graph.replay()
        for place in changed:
            arguments[place].copy_(self._buffers[place])
