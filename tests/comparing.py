"""Recorded inputs as a small sweep has them."""

from __future__ import annotations

import json

from tasks.provenance.result import Result

ENVIRONMENT = {"torch": "2.13.0", "threads": "2", "secateur": "0.1.0+abc"}
INPUTS = {
    "model": "tiny", "model_digest": "m1", "model_revision": "none", "dtype": "float32",
    "method": "wanda", "target": "0.5", "options": json.dumps({"a": 1, "b": "x"}),
    "method_version": "1", "seed_used": "none", "layers_counted": "7 (q_proj)",
    "weights_counted": "100",
    "evaluation/docs/corpus": "Docs", "evaluation/docs/corpus_digest": "c1",
    "evaluation/docs/split": "heldout", "evaluation/docs/window_tokens": "64",
    "evaluation/docs/windows": "2", "evaluation/docs/vocabulary": "v1",
    "evaluation/docs/bos": "none", "evaluation/docs/tokens_digest": "t1",
    "evaluation/docs/predicted_tokens": "126",
    "evaluation/docs/environment": json.dumps(ENVIRONMENT),
    "evaluation/docs/evaluated_on": "2026-01-01",
    "prune_environment": json.dumps(ENVIRONMENT), "pruned_on": "2026-01-01",
    "calibration/corpus": "More docs", "calibration/corpus_digest": "c2",
    "calibration/window_tokens": "64", "calibration/windows": "2",
    "calibration/windows_drawn": "2", "calibration/sampling": "contiguous",
    "calibration/tokens_digest": "t2",
}  # fmt: skip


def make(
    perplexity: float = 20.0, dense: float = 10.0, sparsity: float = 0.5, **changes: str | None
) -> Result:
    """A result with some inputs changed, ``__`` for ``/``; None leaves one out."""
    named = {key.replace("__", "/"): value for key, value in changes.items()}
    inputs = {key: value for key, value in (INPUTS | named).items() if value is not None}
    metrics = {
        "sparsity": sparsity,
        "perplexity/docs": perplexity,
        "dense_perplexity/docs": dense,
    }
    return Result(
        reference="x",
        title="wanda 0.5 of tiny, seed 0",
        origin="/sweeps/x",
        metrics=metrics,
        inputs=inputs,
    )
