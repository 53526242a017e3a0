"""Addresses of the pages of Prefect and MLflow, where a run may link from one to the other.

They are known when ``secateur up`` runs, or when the variables are set by whoever runs the servers.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from tasks.tracking import Tracker

MLFLOW_URL = "SECATEUR_MLFLOW_URL"
PREFECT_URL = "PREFECT_UI_URL"


def mlflow_page() -> str:
    """Where MLflow's page is, without credentials; empty when nobody said."""
    given = os.environ.get(MLFLOW_URL) or os.environ.get("MLFLOW_TRACKING_URI", "")
    if urlsplit(given).scheme not in ("http", "https"):
        return ""
    return without_credentials(given).rstrip("/")


def without_credentials(url: str) -> str:
    """``url`` without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def prefect_tags() -> dict[str, str]:
    """The MLflow tag that leads to this flow run's page; nothing outside of a flow run."""
    from prefect.runtime import flow_run

    base = os.environ.get(PREFECT_URL, "").rstrip("/")
    if not base or not flow_run.id:
        return {}
    return {"prefect.flow_run": f"{base}/runs/flow-run/{flow_run.id}"}


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
        for kind, text in ((CELLS, "table of cells"), (CURVES, "perplexity against sparsity")):
            address = tracker.view_url(base, kind, name)
            _link(address, f"MLflow: {text}", f"In MLflow: {text}", f"{name} {kind} in MLflow")


def _link(address: str, text: str, description: str, title: str = "") -> None:
    from prefect.artifacts import create_link_artifact

    key = re.sub("[^a-z0-9]+", "-", title.lower()).strip("-") or None
    create_link_artifact(link=address, link_text=text, description=description, key=key)
