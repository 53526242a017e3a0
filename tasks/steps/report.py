"""Writes a sweep's folder: results, plots, report; and shows them in Prefect and MLflow."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock
from prefect import task
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE

from configs.yaml_file import dump
from tasks.plan.corpora import Windows
from tasks.plan.plan import ModelPlan, Plan
from tasks.provenance.recorded import INPUTS_NAME, write_inputs
from tasks.reporting.console import results_artifact
from tasks.reporting.context import (
    CalibrationFacts,
    CorpusFacts,
    ModelFacts,
    ReportContext,
    TrainingFacts,
)
from tasks.reporting.markdown import write_report
from tasks.reporting.ordering import sort_rows
from tasks.reporting.rows import Row, read_results, write_results
from tasks.reporting.timings import Timings
from tasks.runtime.environment import environment
from tasks.steps.record import finish, recorder_of
from tasks.steps.rows import rows_of
from tasks.store.files import write_atomically
from tasks.store.home import home, sweep_folder
from tasks.store.store import Store


def write_folder(
    plan: Plan,
    store: Store,
    errors: Mapping[str, str],
    run_ids: Mapping[str, str],
    timings: Timings | None = None,
) -> tuple[list[Row], list[Path], bool]:
    """Write ``config.yaml``, results, plots and ``report.md``.

    Returns:
        The rows, the plots, and whether anything changed: a report that would say the same stays,
        with the times of the run that made it.

    Args:
        errors: row fingerprint → why it failed.
        run_ids: row fingerprint → MLflow run.
        timings: of this run; None when nothing was run.
    """
    folder = sweep_folder(plan.config.name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = sort_rows(rows_of(plan, store, errors), plan.config.entries, plan.config.models)
    for row in rows:
        row["mlflow_run_id"] = run_ids.get(str(row.get("fingerprint")), "")
    locks = home() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"report-{plan.config.name}.lock"):
        write_needs(plan, folder)
        plots = sorted((folder / "plots").glob("*.png"))
        if timings and not timings.cells and plots and _same(rows, folder):
            return rows, plots, False
        from tasks.reporting.plots import write_plots  # matplotlib, where there is something new

        write_atomically(folder / "config.yaml", dump(plan.config).encode())
        write_results(rows, folder)
        write_inputs(plan, rows, home(), folder)
        plots = write_plots(rows, folder, _layer_sparsity(plan, store), _layer_errors(plan, store))
        for stale in set((folder / "plots").glob("*.png")) - set(plots):
            stale.unlink(missing_ok=True)
        write_report(rows, _context(plan, store, timings), folder, plots)
    return rows, plots, True


def _same(rows: list[Row], folder: Path) -> bool:
    """Whether the folder's results are these rows."""
    try:
        former = read_results(folder)
    except (OSError, ValueError):
        return False
    names = {name for row in rows for name in row}
    wanted = [{name: row.get(name) for name in names} for row in rows]
    written = all((folder / name).exists() for name in ("report.md", INPUTS_NAME))
    return written and wanted == [{name: row.get(name) for name in names} for row in former]


def write_needs(plan: Plan, folder: Path) -> None:
    """List the artifacts of a sweep, which ``gc`` then keeps."""
    kept = plan.config.save_checkpoints
    needed = [
        f"{step.name}/{step.fingerprint}"
        for step in plan.steps()
        if kept or step.name != "checkpoint"
    ]
    # What an interrupted training goes on from, whether its checkpoint is kept afterwards or not.
    trained = (cell for cell in plan.cells if cell.method.learns == "weights")
    needed += [f"training/{cell.checkpoint.fingerprint}" for cell in trained]
    write_atomically(folder / "artifacts.json", json.dumps(needed, indent=1).encode())


def needed_artifacts() -> set[str]:
    """What the sweeps of this home need: ``step name/fingerprint``.

    Raises:
        ValueError: when a sweep's list cannot be read; the message names it.
    """
    needed: set[str] = set()
    for listing in (home() / "sweeps").glob("*/artifacts.json"):
        try:
            needed.update(json.loads(listing.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(str(listing)) from error
    return needed


def known_run_ids(name: str) -> dict[str, str]:
    """Row fingerprint → MLflow run, from the results on disk."""
    try:
        rows = read_results(sweep_folder(name))
    except (OSError, ValueError):
        return {}
    return {
        str(row["fingerprint"]): str(row["mlflow_run_id"])
        for row in rows
        if row.get("mlflow_run_id") and row.get("fingerprint")
    }


def _layer_sparsity(plan: Plan, store: Store) -> dict[str, dict[str, dict[str, float]]]:
    result: dict[str, dict[str, dict[str, float]]] = {}
    for cell in plan.cells:
        if cell.seed == plan.config.seeds[0] and (found := store.find(cell.pruned)):
            layers = result.setdefault(cell.model.model.spec, {})
            layers[cell.label] = dict(found.facts["layer_sparsity"])
    return result


def _layer_errors(plan: Plan, store: Store) -> dict[str, dict[str, dict[str, float]]]:
    result: dict[str, dict[str, dict[str, float]]] = {}
    for cell in plan.cells:
        step = cell.measures.reconstruction
        if cell.seed == plan.config.seeds[0] and step and (found := store.find(step)):
            errors = {name: float(error) for name, error in found.facts["layer_errors"].items()}
            result.setdefault(cell.model.model.spec, {})[cell.label] = errors
    return result


def _corpus_facts(windows: Windows, model: ModelPlan, store: Store) -> CorpusFacts:
    tokens = store.find(windows.step)
    dense = store.find(model.dense.perplexity[windows.name])
    return CorpusFacts(
        name=windows.name,
        description=windows.facts.description,
        digest=windows.facts.digest,
        window_tokens=windows.length,
        windows=tokens.facts["windows"] if tokens else windows.count or 0,
        predicted_tokens=dense.facts["tokens"] if dense else 0,
        bos=bool(tokens and tokens.facts["bos"] is not None),
    )


def _training_facts(windows: Windows, store: Store) -> TrainingFacts:
    tokens = store.find(windows.step)
    return TrainingFacts(
        description=windows.facts.description,
        digest=windows.facts.digest,
        windows=tokens.facts["windows"] if tokens else windows.count or 0,
        window_tokens=windows.length,
        skipped_tokens=windows.skip,
    )


def _context(plan: Plan, store: Store, timings: Timings | None) -> ReportContext:
    first = plan.models[0]
    calibration = plan.config.calibration
    return ReportContext(
        name=plan.config.name,
        models=[_model_facts(model, store) for model in plan.models],
        dtype=plan.config.dtype,
        calibration=CalibrationFacts(
            description=first.calibration.facts.description,
            digest=first.calibration.facts.digest,
            windows=calibration.samples,
            window_tokens=calibration.sequence_length,
            sampling=calibration.sampling,
            seed=calibration.seed,
        )
        if first.calibration
        else None,
        training=_training_facts(first.training, store) if first.training else None,
        evaluations=[_corpus_facts(w, first, store) for w in first.evaluations.values()],
        environment=environment(),
        skipped=[(s.model, s.method, s.target, s.reason) for s in plan.skipped],
        timings=timings,
        checkpoints_kept=plan.config.save_checkpoints,
    )


def _model_facts(model: ModelPlan, store: Store) -> ModelFacts:
    dense = next((found for s in model.dense.perplexity.values() if (found := store.find(s))), None)
    return ModelFacts(
        name=model.model.spec,
        source=model.model.kind,
        revision=model.model.revision or None,
        digest=model.model.digest,
        parameters=dense.facts["parameters"] if dense else 0,
    )


@task(name="report", cache_policy=NO_CACHE, persist_result=False)
def report(plan: Plan, store: Store, errors: dict[str, str], timings: Timings) -> list[Row]:
    """Write the sweep's folder, log it to MLflow and show it as Prefect artifacts."""
    recorder = recorder_of(plan)
    known = known_run_ids(plan.config.name) | recorder.run_ids
    rows, plots, changed = write_folder(plan, store, errors, known, timings)
    failed = [row for row in rows if row["status"] == "failed"]
    status = "partial" if failed else "completed"
    finish(plan, rows, sweep_folder(plan.config.name), status, changed=changed)
    _publish(plan, rows, plots)
    return rows


def _key(*parts: str) -> str:
    """An artifact key: Prefect allows lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def _publish(plan: Plan, rows: list[Row], plots: list[Path]) -> None:
    name = plan.config.name
    create_table_artifact(
        key=_key(name, "results"), table=results_artifact(rows), description=f"Results of {name}"
    )
    for plot in plots:
        image = base64.b64encode(plot.read_bytes()).decode()
        create_image_artifact(
            key=_key(name, plot.stem),
            image_url=f"data:image/png;base64,{image}",
            description=f"{plot.stem} of {name}",
        )
    text = (sweep_folder(name) / "report.md").read_text(encoding="utf-8")
    # The plots are artifacts of their own: the dashboard cannot follow links into a folder.
    create_markdown_artifact(
        key=_key(name, "report"),
        markdown=re.sub(r"^!\[.*\n", "", text, flags=re.MULTILINE),
        description=f"Report of {name}",
    )
