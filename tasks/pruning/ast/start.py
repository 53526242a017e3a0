"""Where AST starts other than from the dense weights: from a one-shot method's.

This is ours, not the paper's. A mask by size alone leaves SmolLM2-135M at a perplexity of 1 482 and
by activations at 180, and a short run spends itself on the way back; a method that compensates
leaves 80 to 91 (``tests/benchmarks/setting_r.md``). What its mask prunes starts at zero, and grows
again where training wants it; a branch (``slorb.py``) starts at zero too, for nothing is left that
it could stand in for.

Shapes: ``N`` windows, ``L`` tokens of a window.
"""

from __future__ import annotations

import time

from torch import Tensor

from tasks.pruning.ast.student import Student
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.driver import collect_statistics, prune
from tasks.pruning.core.methods import LayerMethod, Method, Progress
from tasks.pruning.core.retraining import Engine

_TOKENS = 8192
"""Of the first training windows; more gain neither method much."""


def begin_(
    student: Student,
    method: Method,
    decoder: Decoder,
    training_NL: Tensor,
    engine: Engine,
    progress: Progress | None,
) -> dict[str, float]:
    """Give a student the layers that ``method`` makes of the dense model.

    Args:
        training_NL: all windows that training learns from.
        progress: called with (steps done, steps in all) of each pass over the model.

    Returns:
        What the method told, and its seconds and tokens, which are none of training's.
    """
    begun = time.perf_counter()
    tokens_NL = training_NL[: max(1, _TOKENS // training_NL.shape[1])]
    statistics = None
    if isinstance(method, LayerMethod):
        statistics = collect_statistics(
            decoder, tokens_NL, sketch=method.sketch, device=engine.device, progress=progress
        )
    result = prune(
        method,
        decoder,
        student.target,
        tokens_NL=tokens_NL,
        statistics=statistics,
        device=engine.device,
        progress=progress,
    )
    weights = result.weights
    if engine.rank:  # the first one's, as each may round differently
        for weight in weights.values():
            weight.zero_()
    engine.sum_(list(weights.values()))
    student.start_from_(weights)
    told = {name: value for name, value in result.figures.items() if name != "calibration_seconds"}
    seconds = time.perf_counter() - begun
    return {**told, "start_seconds": seconds, "start_tokens": float(tokens_NL.numel())}
