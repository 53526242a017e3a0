"""One row of ``results.csv`` for each cell and each dense model, from what the store holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from tasks.compression.checkpoint import history_of
from tasks.measures.base import Subject
from tasks.measures.figures import Figure
from tasks.measures.registry import figures_of, measures
from tasks.measures.size import zeros_of
from tasks.models.prepare import UNREAD, in_words, needs_preparation
from tasks.plan.encoders import is_one
from tasks.plan.plan import Cell, Measured, ModelPlan, Plan, Skipped, steps_of
from tasks.plan.selections import quality_of
from tasks.pruning.core.notes import notes_of
from tasks.pruning.core.targets import parse_target
from tasks.store.context import Context
from tasks.store.manifest import DamagedError, read_manifest
from tasks.store.steps import Step, walk
from tasks.store.store import Artifact

Row = dict[str, Any]


def found_of(measured: Measured, context: Context) -> dict[str, dict[str, Artifact]]:
    """Measure → name → artifact, of the steps that the store holds; none without any."""
    every = {
        measure: {name: found for name, step in named.items() if (found := context.find(step))}
        for measure, named in measured.items()
    }
    return {measure: artifacts for measure, artifacts in every.items() if artifacts}


def _columns(measured: Measured, context: Context) -> Row:
    row: Row = {}
    found = found_of(measured, context)
    for measure, artifacts in found.items():
        row |= measures()[measure].columns(artifacts)
    done = {a.path: a.facts for artifacts in found.values() for a in artifacts.values()}
    if done:
        row["evaluate_seconds"] = sum(facts.get("seconds", 0.0) for facts in done.values())
        row["peak_memory_bytes"] = max(
            (facts.get("peak_memory_bytes", 0) for facts in done.values()), default=0
        )
    return row


def _dense_columns(columns: Row) -> Row:
    """What every row of a model repeats of the dense one."""
    return {
        figure.of_dense: columns[figure.column]
        for figure in figures_of(list(columns))
        if figure.relative and figure.headline
    }


def dense_row(model: ModelPlan, context: Context, error: str = "") -> Row:
    """The row of a model as it came."""
    columns = _columns(model.measured, context)
    complete = all(context.find(step) for step in steps_of(model.measured))
    return {
        "model": model.spec,
        "method": "dense",
        "target": "",
        "seed": None,
        "status": "completed" if complete else "failed",
        "error": "" if complete else error or "not evaluated",
        "sparsity": zeros_of(found_of(model.measured, context).get("size", {})),
        "exempt_weights": None,
        "excluded_weights": None,
        **_dense_columns(columns),
        "prune_seconds": 0.0,
        "calibration_seconds": 0.0,
        "learned": "",
        "departs": "",
        "training_tokens": 0,
        **columns,
        "checkpoint": "",
        "mlflow_run_id": "",
        "fingerprint": model.fingerprint,
    }


def cell_row(cell: Cell, context: Context, error: str = "") -> Row:
    """The row of a cell; ``failed`` unless everything it needs is in the store."""
    pruned = context.find(cell.pruned)
    facts = pruned.facts if pruned else {}
    columns = _columns(cell.measured, context)
    complete = pruned is not None and all(context.find(step) for step in steps_of(cell.measured))
    peaks = (columns.get("peak_memory_bytes", 0), facts.get("peak_memory_bytes", 0))
    checkpoint = context.store.path(cell.checkpoint.place)
    return {
        **cell.axes,
        "status": "completed" if complete else "failed",
        "error": "" if complete else error or "not computed",
        "sparsity": facts.get("sparsity"),
        "exempt_weights": sum(facts.get("exempt_weights", {}).values()),
        "excluded_weights": facts.get("excluded_weights", 0),
        **_dense_columns(_columns(cell.model.measured, context)),
        "prune_seconds": facts.get("prune_seconds"),
        "calibration_seconds": facts.get("calibration_seconds"),
        "learned": facts.get("learned", ""),
        "departs": _departs(cell),
        "training_tokens": facts.get("training_tokens", 0),
        **quality_of(cell.recipe, context),
        **columns,
        "peak_memory_bytes": max(peaks),
        "checkpoint": str(checkpoint) if complete and checkpoint.exists() else "",
        "mlflow_run_id": "",
        "fingerprint": cell.fingerprint,
    }


def _departs(cell: Cell) -> str:
    """How a cell's method departs from its paper, in a few words; empty where it does not."""
    method = cell.recipe.method
    hidden = method.uses_training and is_one(cell.model.model)
    return ", ".join(filter(None, [method.departs, "learns from hidden states" if hidden else ""]))


def row_of(row: ModelPlan | Cell, context: Context, error: str = "") -> Row:
    """The row of a dense model or of a cell."""
    return (
        dense_row(row, context, error)
        if isinstance(row, ModelPlan)
        else cell_row(row, context, error)
    )


def skipped_row(skipped: Skipped) -> Row:
    """The row of a combination that its method cannot do."""
    return {
        "model": skipped.model,
        "method": skipped.method,
        "target": skipped.target,
        **({"selection": skipped.selection} if skipped.selection else {}),
        "seed": skipped.seed,
        "status": "skipped",
        "error": skipped.reason,
    }


def rows_of(plan: Plan, context: Context, errors: Mapping[str, str]) -> list[Row]:
    """All rows of a sweep: dense models, cells, skipped combinations.

    Args:
        errors: row fingerprint → why it failed.
    """
    planned = (*plan.models, *plan.cells)
    rows = [row_of(row, context, errors.get(row.fingerprint, "")) for row in planned]
    return rows + [skipped_row(skipped) for skipped in plan.skipped]


def across_of(plan: Plan, context: Context) -> dict[str, Any]:
    """Figures of several cells together, by column."""
    columns: dict[str, Any] = {}
    for measure, artifacts in found_of(plan.across, context).items():
        columns |= measures()[measure].columns(artifacts)
    return columns


def layers_of(plan: Plan, context: Context) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Column → model → cell → layer → value, of the first seed."""
    result: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for cell in (c for c in plan.cells if c.seed == plan.config.seeds[0]):
        by_column: dict[str, Mapping[str, float]] = {}
        if pruned := context.find(cell.pruned):
            by_column["sparsity"] = pruned.facts["layer_sparsity"]
        for measure, artifacts in found_of(cell.measured, context).items():
            by_column |= measures()[measure].layers(artifacts)
        for column, layers in by_column.items():
            models = result.setdefault(column, {})
            models.setdefault(cell.model.spec, {})[cell.label] = dict(layers)
    return result


def curves_of(plan: Plan, context: Context) -> dict[str, dict[str, dict[str, Any]]]:
    """Column → model → cell, or ``dense``, → its curve; of the first seed."""
    result: dict[str, dict[str, dict[str, Any]]] = {}
    drawn = [(model.spec, "dense", model.measured) for model in plan.models]
    cells = (cell for cell in plan.cells if cell.seed == plan.config.seeds[0])
    drawn += [(cell.model.spec, cell.label, cell.measured) for cell in cells]
    for model, label, measured in drawn:
        for measure, artifacts in found_of(measured, context).items():
            for column, points in measures()[measure].curves(artifacts).items():
                result.setdefault(column, {}).setdefault(model, {})[label] = points
    return result


def described(subject: Subject, measured: Measured, context: Context) -> dict[str, str]:
    """What a dense model was measured with, in words."""
    texts: dict[str, str] = {}
    for measure, artifacts in found_of(measured, context).items():
        texts |= measures()[measure].described(subject, artifacts)
    return texts


def learned_of(row: ModelPlan | Cell, context: Context) -> list[dict[str, float]]:
    """Figures of what a row learned, step by step: in pruning, and to be measured."""
    steps = history_of(context.find(row.pruned)) if isinstance(row, Cell) else []
    for measure, artifacts in found_of(row.measured, context).items():
        steps += [dict(step) for step in measures()[measure].history(artifacts)]
    return steps


def environment_of(
    planned: Iterable[ModelPlan | Cell], context: Context
) -> tuple[dict[str, str], list[str]]:
    """What computed the steps behind some rows, by name, and a note where that differs.

    Of what differs each value has the number of rows with a step of it.
    """

    @cache
    def made_by(step: Step) -> Mapping[str, str]:
        try:  # the manifest alone: whether the files are whole is no matter here
            facts = read_manifest(context.store.path(step.place))["facts"]
        except (OSError, DamagedError):
            return {}
        return facts.get("environment", {})

    rows = [[made for step in walk(row.goals) if (made := made_by(step))] for row in planned]
    told: dict[str, str] = {}
    apart: list[str] = []
    for name in dict.fromkeys(name for row in rows for environment in row for name in environment):
        of_row = [dict.fromkeys(each.get(name, "none") for each in row) for row in rows]
        counts = Counter(value for values in of_row for value in values)
        told[name] = ", ".join(
            value if len(counts) == 1 else f"{value} ({count} row{'s' * (count > 1)})"
            for value, count in counts.items()
        )
        # Each commit is another secateur: seconds of one machine compare all the same.
        apart += [name] if len(counts) > 1 and name != "secateur" else []
    note = (
        f"What these rows were computed with differs ({', '.join(apart)}: see What was used). "
        "Seconds and memory of pruning and evaluation compare only within one environment; tables "
        "and plots take them as of one."
    )
    return told, [note] if apart else []


def left_notes(plan: Plan, context: Context) -> list[str]:
    """What stands beside a row: how it was read and pruned, which weights stay dense, branches."""
    said: dict[str, None] = {}
    for model in plan.models:
        found = context.find(model.subject.weights) if needs_preparation(model.model) else None
        if lacks := in_words(found.facts.get(UNREAD, ()) if found else ()):
            said[
                f"{model.spec}: what its file states and the model lacks, as trust.unread_weights "
                f"allows: {lacks}."
            ] = None
        said |= dict.fromkeys(model.doubts)
    for cell in plan.cells:
        facts = found.facts if (found := context.find(cell.pruned)) else {}
        for note in notes_of(facts.get("figures", {})):
            said[f"{cell.recipe.label}: {note}"] = None
        if facts.get("from_main_memory", False):
            said[
                f"{cell.recipe.label}: the model leaves too little room on the GPU, so its weights "
                "came from main memory a block at a time: seconds of pruning hold that way."
            ] = None
        if exempt := facts.get("exempt_weights", {}):
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in exempt.items())
            said[f"{cell.model.spec}: exempt weights stay dense and uncounted: {kinds}."] = None
        if layers := facts.get("excluded_layers", 0):
            said[
                f"{cell.model.spec}: exclude ({', '.join(cell.recipe.exclude)}) leaves {layers} "
                f"layers dense, {facts['excluded_weights']:,} of the {facts['counted_weights']:,} "
                "weights that zeros are counted over."
            ] = None
        if weights := facts.get("branch_weights", 0):
            said[
                f"{cell.label}: {weights:,} weights of side branches are measured and not counted "
                "among zeros; they stand beside the checkpoint's own, where load_pruned reads them "
                "and stock from_pretrained does not."
            ] = None
    return list(said)


def sparser_notes(rows: Sequence[Row]) -> list[str]:
    """Which targets ask for fewer zeros than their model came with."""
    said = []
    for model, zeros in ((r["model"], r["sparsity"]) for r in rows if r["method"] == "dense"):
        targets = dict.fromkeys(r["target"] for r in rows if r["model"] == model and r["target"])
        less = [target for target in targets if parse_target(target).sparsity < (zeros or 0.0)]
        if less:
            said.append(
                f"{model}: {zeros:.1%} of the weights that zeros are counted over are zero before "
                f"pruning; {', '.join(less)} ask{'s' * (len(less) == 1)} for less than that."
            )
    return said


def headline_note(row: Row) -> str:
    """A completed row in a few words, for the line that tells its end."""
    figures: Sequence[Figure] = figures_of(list(row))
    texts = [
        f"{figure.heading} {value:.5g}"
        for figure in figures
        if figure.headline and (value := figure.value(row)) is not None
    ]
    zeros = row.get("sparsity")
    return ", ".join([*texts, *([] if zeros is None else [f"sparsity {zeros:.1%}"])])
