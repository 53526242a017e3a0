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

    return _for_training(app)


_CHOICE = (
    b"<script>try{localStorage['mlflow.workflowType_v1']??='\"machine_learning\"'}catch{}</script>"
)
"""MLflow's page is for agents or for training, whatever a tag of an experiment says: as its user
last chose, else for agents, whose pages show no sweep. Here it begins with training."""


def _for_training(app: Any) -> Callable[..., Awaitable[None]]:
    """The application with a page that opens an experiment on its runs."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/" or scope["method"] != "GET":
            await app(scope, receive, send)
            return
        begun: dict[str, Any] = {}
        parts: list[bytes] = []

        async def chosen(message: Any) -> None:
            if message["type"] == "http.response.start":
                begun.update(message)
                return
            parts.append(message.get("body", b""))
            if message.get("more_body"):
                return
            body = b"".join(parts).replace(b"<head>", b"<head>" + _CHOICE, 1)
            kept = [entry for entry in begun["headers"] if entry[0].lower() != b"content-length"]
            if body:  # there is none where the browser has it already
                kept.append((b"content-length", str(len(body)).encode()))
            await send({**begun, "headers": kept})
            await send({"type": "http.response.body", "body": body})

        await app(scope, receive, chosen)

    return served


def end_abandoned(database: str, home: Path, held: Callable[[str], bool]) -> None:
    """End the runs that killed sweeps of a home left open in its server's database.

    Args:
        held: tells by a sweep's name whether a process runs it.
    """
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=database)
    close_abandoned(client, database, home, lambda _, name: not held(name))
