"""A result's inputs as one metric sees them: options and versions apart, no corpus in names."""

from __future__ import annotations

import json

from tasks.provenance.manifests import EVALUATION, SPEED, ZERO_SHOT, Inputs
from tasks.provenance.result import Result

ENVIRONMENT_PREFIX = "environment/"
PRUNE_ENVIRONMENT_PREFIX = "prune_environment/"
_DATES = ("evaluated_on", "pruned_on")
_ONLY_WHERE_THERE = ("gpus", "cuda")
"""Parts of an environment that are recorded only where there are any."""
_MEASUREMENTS = (EVALUATION, ZERO_SHOT, f"{SPEED}/")
_SAID_OTHERWISE = ("variant_of", "status", "seed")
"""Params of a run that are no inputs: the seed as used is ``seed_used``."""


def role_of(result: Result, metric: str) -> str:
    """Which measurement a figure comes from, as inputs are named; empty for one of none of them.

    ``evaluation/<corpus>`` for perplexity and agreement, ``zero_shot/<task>``, ``speed``.
    """
    kind, _, rest = metric.partition("/")
    if kind == SPEED or f"{kind}/" == ZERO_SHOT:
        return SPEED if kind == SPEED else f"{ZERO_SHOT}{rest.rpartition('/')[0]}"
    role = f"{EVALUATION}{rest}"
    return role if any(key.startswith(f"{role}/") for key in result.inputs) else ""


def view(result: Result, metric: str) -> Inputs:
    """The inputs of one figure of a result.

    ``evaluation/<corpus>/x`` becomes ``evaluation/x`` for the metric's own corpus, and other
    corpora are left out; options and environments, recorded as JSON, become one key each.
    """
    own = role_of(result, metric)
    measured = f"{own}/environment" in result.inputs
    found: Inputs = {}
    for key, value in result.inputs.items():
        if own and key.startswith(f"{own}/"):
            found[f"{own.partition('/')[0]}/{key.removeprefix(f'{own}/')}"] = value
        elif not key.startswith(_MEASUREMENTS) and key not in _SAID_OTHERWISE:
            found[key] = value
    found["method"] = result.inputs.get("variant_of") or result.inputs.get("method", "")
    _expand(found, "options", "options/")
    kind = own.partition("/")[0]
    _expand(found, f"{kind}/environment", ENVIRONMENT_PREFIX)
    # Seconds of pruning, say, were measured where it was pruned.
    _expand(
        found, "prune_environment", PRUNE_ENVIRONMENT_PREFIX if measured else ENVIRONMENT_PREFIX
    )
    if f"{ENVIRONMENT_PREFIX}torch" in found:
        for name in _ONLY_WHERE_THERE:
            found.setdefault(f"{ENVIRONMENT_PREFIX}{name}", "none")
    for date in _DATES:
        for key in (date, f"{kind}/{date}"):
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
