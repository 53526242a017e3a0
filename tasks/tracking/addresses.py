"""Tracking URIs: which one is meant, what kind it is, and its credentials."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

DATABASES = {"sqlite": None, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Scheme → default port."""


def scheme(uri: str) -> str:
    """``postgresql`` of ``postgresql+psycopg://…``."""
    return urlsplit(uri).scheme.partition("+")[0]


def address_of(uri: str | None, home: Path) -> str:
    """``uri``, else ``MLFLOW_TRACKING_URI``, else the SQLite file of the home, no credentials.

    MLflow takes user and password of a server from the environment: MLflow and requests put the
    URI into many of their errors.
    """
    given = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
    parts = urlsplit(given)
    if parts.scheme not in ("http", "https") or not parts.username:
        return given
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
