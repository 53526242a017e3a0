"""Everything that a row's figures were made from, by name: written beside them and logged.

``inputs.json`` in a sweep's folder holds, for each row of the results, its inputs and the artifacts
that they were read from, so that ``secateur diff`` compares rows without the models, the corpora or
the sweep file, on any machine. MLflow holds the same names as params of the row's run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.provenance.manifests import EVALUATION, PRUNED, SPEED, TOKENS, ZERO_SHOT, Inputs, derived
from tasks.store.files import write_atomically

if TYPE_CHECKING:
    from configs.corpora import Corpus
    from tasks.plan.corpora import Windows
    from tasks.plan.plan import Cell, ModelPlan, Plan
    from tasks.store.store import Step

INPUTS_NAME = "inputs.json"


def write_inputs(plan: Plan, rows: Iterable[Mapping[str, Any]], root: Path, folder: Path) -> None:
    """Write ``inputs.json``: row fingerprint → its inputs and steps.

    Args:
        rows: of the results; skipped ones have no inputs.
        root: the home that holds the artifacts.
    """
    entries = {}
    for row in rows:
        if row.get("fingerprint"):
            model, cell = _place(plan, row)
            steps = steps_of(model, cell)
            inputs = described(plan, model, cell) | derived(root, steps)
            entries[str(row["fingerprint"])] = {"inputs": inputs, "steps": steps}
    text = json.dumps({"version": 1, "rows": entries}, indent=1, ensure_ascii=False)
    write_atomically(folder / INPUTS_NAME, text.encode())


def inputs_of(plan: Plan, model: ModelPlan, cell: Cell | None, root: Path) -> Inputs:
    """The inputs of one row as they are logged; its artifacts need not all be there."""
    return described(plan, model, cell) | derived(root, steps_of(model, cell))


def _place(plan: Plan, row: Mapping[str, Any]) -> tuple[ModelPlan, Cell | None]:
    model = next(m for m in plan.models if m.model.spec == row["model"])
    cell = next((c for c in plan.cells if c.fingerprint == row["fingerprint"]), None)
    return model, cell


def steps_of(model: ModelPlan, cell: Cell | None) -> dict[str, str]:
    """Role → ``step/fingerprint`` of the artifacts behind a row; a dense model's without a cell."""
    measures = cell.measures if cell else model.dense
    steps: dict[str, Step] = {
        f"{EVALUATION}{name}": step for name, step in measures.perplexity.items()
    }
    steps |= {f"{ZERO_SHOT}{name}": step for name, step in measures.zero_shot.items()}
    if measures.speed:
        steps[SPEED] = measures.speed
    for name, windows in model.evaluations.items():
        steps[f"{EVALUATION}{name}{TOKENS}"] = windows.step
    if cell:
        steps[PRUNED] = cell.pruned
        if cell.method.uses_calibration and model.calibration:
            steps[f"calibration{TOKENS}"] = model.calibration.step
        if cell.method.uses_training and model.training:
            steps[f"training{TOKENS}"] = model.training.step
    return {role: f"{step.name}/{step.fingerprint}" for role, step in steps.items()}


def described(plan: Plan, model: ModelPlan, cell: Cell | None) -> Inputs:
    """What the plan alone tells of a row's inputs."""
    inputs = {
        "model": model.model.spec,
        "model_digest": model.model.digest,
        "model_revision": model.model.revision or "none",
        "dtype": model.dtype,
        "method": cell.name if cell else "dense",
        "target": str(cell.target) if cell else "none",
    }
    for name, windows in model.evaluations.items():
        inputs |= _text(f"{EVALUATION}{name}", windows)
    if cell is None:
        return inputs
    if cell.name != cell.method.name:
        inputs["variant_of"] = cell.method.name
    inputs["options"] = json.dumps(asdict(cell.method), sort_keys=True)
    if cell.method.uses_calibration and model.calibration:
        calibration = plan.config.calibration
        inputs |= _text("calibration", model.calibration)
        inputs["calibration/windows"] = str(cell.statistics_windows or calibration.samples)
        inputs["calibration/windows_drawn"] = str(calibration.samples)
        inputs["calibration/sampling"] = calibration.sampling
        if calibration.sampling == "random":
            inputs["calibration/seed"] = str(calibration.seed)
    if cell.method.uses_training and model.training:
        inputs |= _text("training", model.training)
        inputs["training/skipped_tokens"] = str(model.training.skip)
    return inputs


def _text(prefix: str, windows: Windows) -> Inputs:
    inputs = {
        f"{prefix}/corpus": windows.facts.description,
        f"{prefix}/corpus_digest": windows.facts.digest,
        f"{prefix}/window_tokens": str(windows.length),
        f"{prefix}/windows": str(windows.count or "all"),
    }
    if split := split_of(windows.corpus, windows.role):
        inputs[f"{prefix}/split"] = split
    if revision := windows.facts.facts.get("revision"):
        inputs[f"{prefix}/corpus_revision"] = str(revision)
    return inputs


def split_of(corpus: Corpus, role: str) -> str:
    """Which part of its source a corpus is; empty for files, which have none."""
    if corpus.source == "files":
        return ""
    return corpus.part or role if corpus.source == "python-docs" else corpus.split or ""
