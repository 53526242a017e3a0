"""A result's inputs as one metric sees them: options and versions apart, no corpus in names."""

from __future__ import annotations

import json

from tasks.compare.manifests import EVALUATION, Inputs
from tasks.compare.result import Result

ENVIRONMENT_PREFIX = "environment/"
PRUNE_ENVIRONMENT_PREFIX = "prune_environment/"
_DATES = ("evaluated_on", "pruned_on")
_ONLY_WHERE_THERE = ("gpus", "cuda")
"""Parts of an environment that are recorded only where there are any."""
_SAID_OTHERWISE = ("variant_of", "status", "seed")
"""Params of a run that are no inputs: the seed as used is ``seed_used``."""


def corpora_of(result: Result) -> list[str]:
    """Names of the corpora that a result was evaluated on."""
    named = (key.split("/")[1] for key in result.inputs if key.startswith(EVALUATION))
    return list(dict.fromkeys(named))


def view(result: Result, metric: str) -> Inputs:
    """The inputs of one figure of a result.

    ``evaluation/<corpus>/x`` becomes ``evaluation/x`` for the metric's own corpus, and other
    corpora are left out; options and environments, recorded as JSON, become one key each.
    """
    corpus = metric.rpartition("/")[2]
    own = f"{EVALUATION}{corpus}/"
    found: Inputs = {}
    for key, value in result.inputs.items():
        if key.startswith(own):
            found[f"{EVALUATION}{key.removeprefix(own)}"] = value
        elif not key.startswith(EVALUATION) and key not in _SAID_OTHERWISE:
            found[key] = value
    found["method"] = result.inputs.get("variant_of") or result.inputs.get("method", "")
    _expand(found, "options", "options/")
    _expand(found, f"{EVALUATION}environment", ENVIRONMENT_PREFIX)
    measured = f"{own}environment" in result.inputs
    # Seconds of pruning, say, were measured where it was pruned.
    _expand(
        found, "prune_environment", PRUNE_ENVIRONMENT_PREFIX if measured else ENVIRONMENT_PREFIX
    )
    if f"{ENVIRONMENT_PREFIX}torch" in found:
        for name in _ONLY_WHERE_THERE:
            found.setdefault(f"{ENVIRONMENT_PREFIX}{name}", "none")
    for date in _DATES:
        for key in (date, f"{EVALUATION}{date}"):
            if key in found:
                found[f"{ENVIRONMENT_PREFIX}{date}"] = found.pop(key)
    if "sparsity" in result.metrics and metric != "sparsity" and found["method"] != "dense":
        found["sparsity"] = repr(float(result.metrics["sparsity"]))
    return {key: value for key, value in found.items() if value != ""}


def _expand(inputs: Inputs, key: str, prefix: str) -> None:
    """Replace a JSON object by one entry for each of its names."""
    try:
        entries = json.loads(inputs.pop(key, "{}"))
    except ValueError:
        return
    for name, value in entries.items():
        inputs[f"{prefix}{name}"] = value if isinstance(value, str) else json.dumps(value)
