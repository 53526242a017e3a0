"""Writes a sweep's folder: results, plots, report; and shows them in Prefect and MLflow."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from prefect import task
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE

from configs.yaml_file import dump
from tasks.compression.coresets import ChosenWindows
from tasks.data.texts import Windows
from tasks.measures.figures import PRUNING, SELECTION, Figure
from tasks.measures.registry import figures_of, measures
from tasks.plan.plan import ModelPlan, Plan, needed_places
from tasks.plan.rows import (
    across_of,
    curves_of,
    described,
    environment_of,
    layers_of,
    left_notes,
    rows_of,
    sparser_notes,
)
from tasks.plan.selections import compositions_of, notes_of
from tasks.plan.shared_text import shared_text
from tasks.provenance.inputs import INPUTS_NAME, write_inputs
from tasks.reporting.context import CalibrationFacts, ModelFacts, ReportContext, TrainingFacts
from tasks.reporting.ordering import sort_rows
from tasks.reporting.pages.report import REPORT_NAME, shown_in
from tasks.reporting.rows import Row, completed, read_results, write_results
from tasks.reporting.text import short_names
from tasks.reporting.timings import Timings
from tasks.runtime.environment import environment
from tasks.steps.record import recorder_of
from tasks.steps.run import call_task
from tasks.steps.session import Session
from tasks.store.context import Context
from tasks.store.files import write_atomically
from tasks.store.home import home, sweep_folder
from tasks.store.needs import list_needs


def figures_in(rows: Iterable[Mapping[str, Any]]) -> list[Figure]:
    """What the columns of some rows mean, pruning's own among them."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    return [*figures_of(columns), *PRUNING, *SELECTION]


@dataclass(frozen=True)
class Written:
    """A sweep's folder.

    Attributes:
        changed: whether anything did: a report that would say the same stays, with the times of
            the run that made it.
    """

    rows: list[Row]
    plots: list[Path]
    changed: bool


def write_folder(
    plan: Plan,
    context: Context,
    errors: Mapping[str, str],
    run_ids: Mapping[str, str],
    timings: Timings | None = None,
) -> Written:
    """Write ``config.yaml``, results, plots and reports.

    Args:
        errors: row fingerprint → why it failed.
        run_ids: row fingerprint → MLflow run.
        timings: of this run; None when nothing was run.
    """
    folder = sweep_folder(plan.config.name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = sort_rows(rows_of(plan, context, errors), plan.config.entries, plan.config.models)
    for row in rows:
        row["mlflow_run_id"] = run_ids.get(str(row.get("fingerprint")), "")
    locks = home() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"report-{plan.config.name}.lock"):
        list_needs(folder, needed_places(plan, ended=True))
        plots = sorted((folder / "plots").glob("*.png"))
        idle = timings and not timings.cells and not timings.shared
        config = dump(plan.config).encode()
        if idle and plots and _same(rows, config, folder):
            return Written(rows, plots, changed=False)
        from tasks.reporting.pages import write_report
        from tasks.reporting.plots import write_plots  # matplotlib, where there is something new

        figures = figures_in(rows)
        for former in shown_in(folder):  # what else lies there is not the sweep's
            former.unlink(missing_ok=True)
        # It is written last: without it, what is there was cut off.
        (folder / REPORT_NAME).unlink(missing_ok=True)
        write_atomically(folder / "config.yaml", config)
        write_results(rows, folder, figures)
        write_inputs((*plan.models, *plan.cells), rows, context, folder)
        layers, curves = layers_of(plan, context), curves_of(plan, context)
        sources = compositions_of(plan, context)
        seeds = plan.config.seeds
        seed = seeds[0] if len(seeds) > 1 else None
        plots = write_plots(rows, figures, layers, folder, curves, sources, seed)
        said = _context(plan, context, rows, timings)
        write_report(rows, figures, said, folder, plots)
    return Written(rows, plots, changed=True)


def _same(rows: list[Row], config: bytes, folder: Path) -> bool:
    """Whether the folder's results are these rows, of this sweep file."""
    try:
        former = read_results(folder)
        if (folder / "config.yaml").read_bytes() != config:  # some fields no row shows
            return False
    except (OSError, ValueError):
        return False
    names = {name for row in rows for name in row}
    wanted = [{name: row.get(name) for name in names} for row in rows]
    files = [folder / REPORT_NAME, folder / INPUTS_NAME, *shown_in(folder)]
    written = all(path.exists() for path in files)
    return written and wanted == [{name: row.get(name) for name in names} for row in former]


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


def _context(
    plan: Plan, context: Context, rows: list[Row], timings: Timings | None
) -> ReportContext:
    recipes = [cell.recipe for cell in plan.cells]
    # A text that serves two purposes is one step: ask those that know its purpose.
    calibration = next((r.calibration for r in recipes if r.method.uses_calibration), None)
    training = next((r.training for r in recipes if r.method.uses_training), None)
    columns = across_of(plan, context)
    measured = [note for measure in measures().values() for note in measure.notes(rows)]
    done = completed(rows)
    planned = [one for one in (*plan.models, *plan.cells) if one.fingerprint in done]
    used, apart = environment_of(planned, context)
    return ReportContext(
        name=plan.config.name,
        models=[_model_facts(model, rows) for model in plan.models],
        dtype=plan.config.dtype,
        calibration=_calibration_facts(plan, calibration),
        training=_training_facts(training, context),
        measured=_measured_with(plan, context),
        notes=[
            *plan.text_notes,
            *shared_text(plan, context),
            *left_notes(plan, context),
            *sparser_notes(rows),
            *measured,
            *notes_of(recipes, context),
            *apart,
        ],
        across=[(figure, columns[figure.column]) for figure in figures_of(list(columns))],
        environment=used or environment(),  # this process's where nothing was computed
        skipped=[(s.model, s.method, s.target, s.reason) for s in plan.skipped],
        timings=timings,
        checkpoints_kept=plan.config.save_checkpoints,
    )


def _measured_with(plan: Plan, context: Context) -> dict[str, str]:
    """What the models were measured with; of each where they differ, as windows of two do."""
    names = short_names(model.spec for model in plan.models)
    texts = {
        names[model.spec]: described(model.subject, model.measured, context)
        for model in plan.models
    }
    told: dict[str, str] = {}
    for model, mine in texts.items():
        for title, text in mine.items():
            alike = all(other.get(title) == text for other in texts.values())
            told[title if alike else f"{title}, {model}"] = text
    return told


def _calibration_facts(
    plan: Plan, windows: Windows | ChosenWindows | None
) -> CalibrationFacts | None:
    if windows is None:
        return None
    calibration = plan.config.calibration
    return CalibrationFacts(
        description=windows.description,
        digest=windows.facts.digest,
        windows=calibration.samples,
        window_tokens=calibration.sequence_length,
        sampling=" | ".join(plan.config.samplings),
        seed=calibration.seed,
    )


def _training_facts(
    windows: Windows | ChosenWindows | None, context: Context
) -> TrainingFacts | None:
    if windows is None:
        return None
    tokens = context.find(windows.step)
    return TrainingFacts(
        description=windows.description,
        digest=windows.facts.digest,
        windows=tokens.facts["windows"] if tokens else windows.count or 0,
        window_tokens=windows.length,
        skipped_tokens=windows.skip,
    )


def _model_facts(model: ModelPlan, rows: list[Row]) -> ModelFacts:
    mine = next((row for row in rows if row.get("fingerprint") == model.fingerprint), {})
    return ModelFacts(
        name=model.spec,
        source=model.model.kind,
        revision=model.model.revision or None,
        digest=model.model.digest,
        parameters=int(mine.get("parameters") or 0),
    )


def report(plan: Plan, session: Session, errors: Mapping[str, str], timings: Timings) -> None:
    """Write the sweep's folder, log it to MLflow and show it, as a task of this flow run."""
    call_task(_report, plan, session, dict(errors), timings)


@task(name="report", cache_policy=NO_CACHE, persist_result=False)
def _report(plan: Plan, session: Session, errors: dict[str, str], timings: Timings) -> None:
    recorder = recorder_of(plan, session)
    context = session.context(plan.config)
    known = known_run_ids(plan.config.name) | recorder.run_ids
    written = write_folder(plan, context, errors, known, timings)
    recorder.finish(written.rows, sweep_folder(plan.config.name), changed=written.changed)
    _publish(plan.config.name, written)


def _key(*parts: str) -> str:
    """An artifact key: Prefect allows lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


def _publish(name: str, written: Written) -> None:
    """The report, the results and the plots as artifacts; the page shows the last one first."""
    from tasks.reporting.tables import results_artifact

    for plot in reversed(written.plots):
        image = base64.b64encode(plot.read_bytes()).decode()
        create_image_artifact(
            key=_key(name, plot.stem),
            image_url=f"data:image/png;base64,{image}",
            description=f"Plot of {name}: {plot.stem.replace('-', ' ')}",
        )
    create_table_artifact(
        key=_key(name, "results"),
        table=results_artifact(written.rows, figures_in(written.rows)),
        description=f"Results of {name}, a row a dense model and cell",
    )
    create_markdown_artifact(
        key=_key(name, "report"),
        markdown=without_files(
            (sweep_folder(name) / REPORT_NAME).read_text(encoding="utf-8"), f"sweeps/{name}"
        ),
        description=f"Report of {name}",
    )


def without_files(markdown: str, folder: str) -> str:
    """A report for a page that reaches no folder: no plots, and paths in place of links to files.

    Args:
        folder: where its files are.
    """
    plain = re.sub(r"^!\[.*\n", "", markdown, flags=re.MULTILINE)
    return re.sub(r"\[([^\]]+)\]\((?![#/]|https?:)([^)\s]+)\)", rf"`{folder}/\2`", plain)
