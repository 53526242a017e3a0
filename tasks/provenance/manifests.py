"""What artifacts say of themselves: the inputs of a figure that only computing it tells.

Reads manifests alone: no model, no plan, no torch. A home that was copied from another machine
needs no more than its ``sweeps/`` and the ``manifest.json`` files of its ``artifacts/``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.store.store import MANIFEST, fingerprint

Inputs = dict[str, str]
"""What a figure was made from: a flat name such as ``calibration/windows`` → its value as text."""

PRUNED = "pruned"
EVALUATION = "evaluation/"
ZERO_SHOT = "zero_shot/"
SPEED = "speed"
TOKENS = "/tokens"
_MEASURED_WITH = ("batch_size", "processes", "device_map")
"""Facts of an evaluation that change the order of sums alone."""


def read_manifest(root: Path, place: str) -> Mapping[str, Any] | None:
    """The manifest of ``step/fingerprint`` in a home, or None where there is none or it is broken.

    Args:
        root: the home.
    """
    try:
        manifest = json.loads((root / "artifacts" / place / MANIFEST).read_text(encoding="utf-8"))
        intact = manifest["facts_sha256"] == fingerprint(manifest["facts"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if intact else None


def derived(root: Path, steps: Mapping[str, str]) -> Inputs:
    """What the artifacts behind one row say; an artifact that is not there says nothing.

    Args:
        root: the home that holds them.
        steps: role → ``step/fingerprint``. Roles are ``pruned``, ``evaluation/<name>``,
            ``zero_shot/<task>``, ``speed``, and ``evaluation/<name>/tokens``,
            ``calibration/tokens``, ``training/tokens``.
    """
    found: Inputs = {}
    for role, place in steps.items():
        manifest = read_manifest(root, place)
        if manifest is None:
            continue
        if role == PRUNED:
            found |= _pruned(manifest)
        elif role.startswith(EVALUATION) and role.count("/") == 1:
            found |= _measured(manifest, role)
        elif role == SPEED or role.startswith(ZERO_SHOT):
            found |= _measured(manifest, role) | _settings(manifest["inputs"], role)
        else:
            found |= _tokens(manifest, role.removesuffix(TOKENS))
    return found


def figure_of(root: Path, place: str) -> float | None:
    """The perplexity that an evaluation's artifact holds."""
    manifest = read_manifest(root, place)
    value = manifest["facts"].get("perplexity") if manifest else None
    return None if value is None else float(value)


def _pruned(manifest: Mapping[str, Any]) -> Inputs:
    inputs, facts = manifest["inputs"], manifest["facts"]
    seed = inputs.get("seed")
    found = {
        "seed_used": "none" if seed is None else str(seed),
        "method_version": str(inputs["version"]),
        "layers_counted": _layers(facts["layer_sparsity"]),
        "prune_environment": json.dumps(facts["environment"], sort_keys=True),
        "pruned_on": str(manifest["written"]),
    }
    if "counted_weights" in facts:
        found["weights_counted"] = str(facts["counted_weights"])
    if facts.get("learned"):
        found["training/tokens_learned"] = str(facts["training_tokens"])
    if facts.get("learned") == "weights":
        found["training/processes"] = str(facts["training_processes"])
    return found


def _measured(manifest: Mapping[str, Any], role: str) -> Inputs:
    facts = manifest["facts"]
    found = {
        f"{role}/environment": json.dumps(facts["environment"], sort_keys=True),
        f"{role}/evaluated_on": str(manifest["written"]),
    }
    if "tokens" in facts:
        found[f"{role}/predicted_tokens"] = str(facts["tokens"])
    for name in _MEASURED_WITH:
        if facts.get(name) is not None:
            found[f"{role}/{name}"] = str(facts[name])
    return found


def _settings(inputs: Mapping[str, Any], role: str) -> Inputs:
    """What determines a measurement beside the weights; a task as its digest and versions."""
    settings = {k: v for k, v in inputs.items() if k not in ("version", "weights", "dtype", "task")}
    found = {f"{role}/{name}": str(value) for name, value in settings.items()}
    if task := inputs.get("task"):
        found[f"{role}/task_digest"] = fingerprint(task)
        found[f"{role}/task_version"] = str(task["version"])
        found[f"{role}/harness"] = str(task["harness"])
    return {name: "none" if value == "None" else value for name, value in found.items()}


def _tokens(manifest: Mapping[str, Any], role: str) -> Inputs:
    facts = manifest["facts"]
    content = json.dumps(sorted((k, v["sha256"]) for k, v in manifest["files"].items()))
    found = {
        f"{role}/bos": "none" if facts["bos"] is None else f"token {facts['bos']}",
        f"{role}/tokens_digest": fingerprint({"files": content}),
    }
    if "vocabulary" in facts:
        found[f"{role}/vocabulary"] = str(facts["vocabulary"])
    return found


def _layers(by_layer: Mapping[str, float]) -> str:
    """How many layers sparsity was counted over, and what their kinds are called."""
    kinds = dict.fromkeys(name.rpartition(".")[2] for name in by_layer)
    return f"{len(by_layer)} ({', '.join(kinds)})"
