"""A cell's run in MLflow as a result."""

from __future__ import annotations

from pathlib import Path

from configs.errors import ConfigurationError
from tasks.provenance.inputs import METHOD
from tasks.provenance.references import Reference
from tasks.provenance.result import Result, title_of
from tasks.tracking.reading import NoSuchRunError, read_run

_MOST = 12
_AXES = ("model", "method", "target", "seed", "selection")


def read_logged(reference: Reference, home: Path) -> Result:
    """The result that an MLflow run id means.

    Raises:
        ConfigurationError: there is no such run, or it is no completed row of a sweep.
        TrackingUnavailableError: the server does not answer.
    """
    field, text = reference.field, reference.text
    try:
        run = read_run(reference.run, home)
    except NoSuchRunError as error:
        hint = "MLFLOW_TRACKING_URI can name another server"
        raise ConfigurationError(field, text, str(error), hint) from error
    if run.kind not in ("cell", "dense"):
        listed = ", ".join(f"{run_id} ({name})" for run_id, name in run.children[:_MOST])
        more = len(run.children) - _MOST
        hint = f"Its rows are: {listed}{f' and {more} more' if more > 0 else ''}" if listed else ""
        kind = f"a {run.kind}" if run.kind else "another program"
        allowed = f"this is the run of {kind}, {run.name!r}; name the run of a cell"
        raise ConfigurationError(field, text, allowed, hint)
    if run.params.get("status") != "completed":
        allowed = f"the run {run.name!r} is {run.status}, so there is no figure to compare"
        raise ConfigurationError(field, text, allowed)
    if METHOD not in run.params:
        allowed = f"the run {run.name!r} was logged by another version; run its sweep again"
        raise ConfigurationError(field, text, allowed)
    axes = {name: run.params.get(name, "") for name in _AXES}
    return Result(
        reference=text,
        title=title_of(**axes),
        origin=f"MLflow at {run.server}",
        metrics=run.metrics,
        inputs={key: value for key, value in run.params.items() if "/" in key or key == "model"},
    )
