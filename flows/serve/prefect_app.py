"""Prefect's server as an application, for whoever puts the gate in front of it."""

from __future__ import annotations

from typing import Any


def application() -> Any:
    """The ASGI application that ``prefect server start`` runs.

    Its page lists a run's artifacts by their ids, the last first. Prefect gives them random ids, so
    that the report is anywhere among the plots; here they have ids that grow with time, as
    Prefect's own runs, states and logs have.
    """
    from prefect._internal.uuid7 import uuid7
    from prefect.server.api.server import create_app
    from prefect.server.schemas.core import Artifact
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

    from flows.serve.patience import Patient

    Artifact.model_fields["id"].default_factory = uuid7
    Artifact.model_rebuild(force=True)
    app = create_app(final=True)
    # With another database a 503 may stand for a lost connection, behind which all was done.
    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    return Patient(app) if str(url).startswith("sqlite") else app
