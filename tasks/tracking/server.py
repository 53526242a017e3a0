"""MLflow's server as an application, for whoever puts something in front of it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tasks.tracking.connection import ENVIRONMENT
from tasks.tracking.sweeps import close_abandoned


def application(database: str, artifacts: str) -> Callable[..., Awaitable[None]]:
    """The ASGI application that ``mlflow server`` runs, in this process.

    Args:
        database: the backend store's URI.
        artifacts: the folder of the runs' files, or its URI; clients reach them through the server.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Who may call is not for MLflow to judge: it takes every page of this machine, and does not
    # know its own names. Read when it is imported.
    os.environ["MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"] = "true"
    from mlflow.server import constants
    from mlflow.server.handlers import initialize_backend_stores

    root = "mlflow-artifacts:/"
    # What `mlflow server` tells its process of uvicorn.
    os.environ.update(
        {
            constants.BACKEND_STORE_URI_ENV_VAR: database,
            constants.REGISTRY_STORE_URI_ENV_VAR: database,
            constants.ARTIFACT_ROOT_ENV_VAR: root,
            constants.ARTIFACTS_DESTINATION_ENV_VAR: artifacts,
            constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        }
    )
    initialize_backend_stores(database, database, root)
    from mlflow.server.fastapi_app import app

    served: Any = app
    return served


def end_abandoned(database: str, home: Path, held: Callable[[str], bool]) -> None:
    """End the runs that killed sweeps of a home left open in its server's database.

    Args:
        held: tells by a sweep's name whether a process runs it.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=database)
    close_abandoned(client, database, home, lambda _, name: not held(name))
