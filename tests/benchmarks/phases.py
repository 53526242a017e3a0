"""Where the time of pruning goes: statistics, factors, selection; the rest is forward passes.

CPU seconds of one thread: other work on a machine does not count, and threads that wait for each
other do not count as work.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch

from tasks.pruning import full_obs
from tasks.pruning.core import driver, hessian
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import BlockMethod, LayerMethod, Method
from tasks.pruning.core.statistics import ColumnCollector
from tasks.pruning.core.targets import Target

STATISTICS, FACTORS, SELECTION, FORWARD = "statistics", "factors", "selection", "forward"
"""Sums over inputs; factoring Hessians; scores, masks and updates; everything else."""


@contextmanager
def measured_phases(method: Method) -> Iterator[Counter[str]]:
    """CPU seconds by phase of what runs inside; ``forward`` is what no other phase accounts for."""
    seconds: Counter[str] = Counter()
    inside = [0.0]

    def timed(phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **keywords: Any) -> Any:
            inside.append(0.0)
            start = time.process_time()
            try:
                return function(*args, **keywords)
            finally:
                taken = time.process_time() - start
                # A phase within a phase is not counted twice.
                seconds[phase] += taken - inside.pop()
                inside[-1] += taken

        return wrapper

    kind = type(method)
    prune = "prune_layers" if isinstance(method, BlockMethod) else "prune_layer"
    places: list[tuple[object, str, str]] = [
        (ColumnCollector, "add", STATISTICS),
        (hessian.Hessian, "add", STATISTICS),
        (hessian, "inverse_factor", FACTORS),
        (full_obs, "inverse_factor", FACTORS),
        (kind, prune, SELECTION),
    ]
    with ExitStack() as stack:
        for owner, name, phase in places:
            stack.enter_context(patch.object(owner, name, timed(phase, getattr(owner, name))))
        start = time.process_time()
        yield seconds
        seconds[FORWARD] = time.process_time() - start - sum(seconds.values())


def prune(
    method: Method, decoder: Decoder, target: Target, tokens_NL: Any
) -> tuple[Counter[str], dict[str, Any]]:
    """(CPU seconds by phase of statistics and pruning, weights)."""
    assert torch.get_num_threads() == 1, "waiting threads would count as work"
    with measured_phases(method) as seconds:
        weights = prune_only(method, decoder, target, tokens_NL)
    return seconds, weights


def prune_only(method: Method, decoder: Decoder, target: Target, tokens_NL: Any) -> dict[str, Any]:
    """Statistics and pruning, as a sweep runs them: the weights."""
    statistics = None
    if isinstance(method, LayerMethod):
        tokens_NL = tokens_NL[: method.calibration_windows(*tokens_NL.shape)]
        statistics = driver.collect_statistics(decoder, tokens_NL, sketch=method.sketch)
    result = driver.prune(method, decoder, target, tokens_NL=tokens_NL, statistics=statistics)
    return dict(result.weights)
