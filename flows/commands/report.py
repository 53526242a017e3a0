"""``secateur report``: a sweep's folder written again from what the store holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from configs.errors import ConfigurationError
from flows.compute.overlap import name_held
from tasks.store.home import home, sweep_folder


def rewrite_report(name: str, console: Console) -> None:
    """Write a sweep's folder again from the store.

    Raises:
        ConfigurationError: when there is no such sweep, it runs, or the store no longer holds what
            its results were written from: they are all that is left then.
    """
    folder = sweep_folder(name)
    if not (folder / "config.yaml").exists():
        known = sorted(path.parent.name for path in (home() / "sweeps").glob("*/config.yaml"))
        allowed = f"it must be a sweep below {home() / 'sweeps'}: {', '.join(known) or 'none yet'}"
        raise ConfigurationError("SWEEP", name, allowed)

    def refuse(by: str) -> NoReturn:
        raise ConfigurationError(
            "SWEEP",
            name,
            f"it must have ended: a sweep of this name runs ({by})",
            "It writes its report itself when it ends.",
        )

    with name_held(name, refuse):  # what is read stays so until it is written
        _rewrite(name, folder, console)


def _rewrite(name: str, folder: Path, console: Console) -> None:
    from configs.yaml_file import load
    from tasks.plan.rows import rows_of
    from tasks.reporting.rows import completed, is_dense, read_results
    from tasks.reporting.tables import results_table
    from tasks.steps.report import figures_in, known_run_ids, write_folder
    from tasks.steps.session import session

    try:
        former = read_results(folder)
    except FileNotFoundError:  # written again with the rest
        former = []
        console.print(
            "note: results.json was gone; why cells failed, and rows' MLflow runs, are not known",
            highlight=False,
        )
    errors = {
        str(row["fingerprint"]): str(row["error"])
        for row in former
        if row.get("status") == "failed"
    }
    here = session()
    plan = here.checked_plan(load(str(folder / "config.yaml")), download=False)
    planned = {_axes(cell.axes): cell.fingerprint for cell in plan.cells}
    # Skipped combinations have no fingerprint, and are no cells of the plan.
    if any(planned.get(_axes(r)) != (r["fingerprint"] or None) for r in former if not is_dense(r)):
        raise ConfigurationError(
            "SWEEP",
            name,
            "its models, texts, options or this version differ from when it ran, or a model is "
            "not on this machine, so its figures cannot be written again",
            "Run it again; the former results stay as they are until then.",
        )
    context = here.context(plan.config)
    done = completed(former)
    if gone := done - completed(rows_of(plan, context, errors)):
        raise ConfigurationError(
            "SWEEP",
            name,
            f"the store no longer holds {len(gone)} of its {len(done)} measured rows whole; "
            "nothing was written",
            "Run the sweep again: what is gone is computed anew.",
        )
    written = write_folder(plan, context, errors, known_run_ids(name))
    console.print(results_table(written.rows, figures_in(written.rows), console.width))
    console.print(f"written: {folder}/report.md and {len(written.plots)} plots", highlight=False)


def _axes(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """A row's place in its sweep."""
    return (*(row[axis] for axis in ("model", "method", "target", "seed")), row.get("selection"))
