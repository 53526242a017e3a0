"""Every registered method at a budget that a test can afford, on a tiny decoder."""

from __future__ import annotations

import tiny

from tasks.pruning.core import driver
from tasks.pruning.core.blocks import Decoder
from tasks.pruning.core.methods import LayerMethod, Method, PruneResult
from tasks.pruning.core.registry import methods, parse_target

METHODS = list(methods())
SMALL = {
    "policy_gradient": {"steps": 3, "masks": 2, "batch_size": 2, "sequence_length": 8,
                        "channel_group": 4},
    "flip_gradient": {"tokens": 64, "sequence_length": 8, "round": 0.25, "validation_tokens": 8},
    "ast": {"steps": 4, "batch": 2, "mask_interval": 2},
}  # fmt: skip
"""Budgets that a test can afford; everything else as by default."""


def made(name: str) -> Method:
    return methods()[name](**SMALL.get(name, {}))


def sketch_of(method: Method) -> int:
    """Directions that the method's statistics keep."""
    return method.sketch if isinstance(method, LayerMethod) else 0


def pruned(method: Method, decoder: Decoder, target: str, seed: int = 0) -> PruneResult:
    tokens = tiny.tokens()
    return driver.prune(
        method,
        decoder,
        parse_target(target),
        seed=seed,
        tokens_NL=tokens,
        statistics=driver.collect_statistics(decoder, tokens, sketch=sketch_of(method)),
        training_NL=tiny.tokens(seed=1),
    )


def target_of(name: str) -> str:
    """A target that the method takes."""
    return next(t for t in ("0.5", "2:4") if made(name).refuses(parse_target(t)) is None)
