"""Links from a flow run in Prefect to its runs in MLflow, and back."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from tasks.runtime.links import PREFECT_URL, mlflow_page

if TYPE_CHECKING:
    from tasks.tracking import Tracker


def prefect_tags() -> dict[str, str]:
    """The MLflow tag that leads to this flow run's page; nothing outside of a flow run."""
    from prefect.runtime import flow_run

    base = os.environ.get(PREFECT_URL, "").rstrip("/")
    if not base or not flow_run.id:
        return {}
    return {"prefect.flow_run": f"{base}/v2/runs/flow-run/{flow_run.id}"}


def link_run(tracker: Tracker, run_id: str) -> None:
    """An artifact of this flow run that leads to a run's page in MLflow."""
    if base := mlflow_page():
        page = f"#/experiments/{tracker.experiment_id}/runs/{run_id}"
        address = f"{base}/{page}?workflowType=machine_learning"
        _link(address, "MLflow run", "Figures, params and curves of this cell in MLflow")


def link_sweep(tracker: Tracker, name: str) -> None:
    """Artifacts of this flow run that lead to the sweep's cells and curves in MLflow.

    Args:
        name: the sweep's name.
    """
    from tasks.tracking import CELLS, CURVES

    if base := mlflow_page():
        for kind, text in ((CELLS, "table of cells"), (CURVES, "quality against sparsity")):
            address = tracker.view_url(base, kind, name)
            _link(address, f"MLflow: {text}", f"In MLflow: {text}", f"{name} {kind} in MLflow")


def _link(address: str, text: str, description: str, title: str = "") -> None:
    from prefect.artifacts import create_link_artifact

    key = re.sub("[^a-z0-9]+", "-", title.lower()).strip("-") or None
    create_link_artifact(link=address, link_text=text, description=description, key=key)
