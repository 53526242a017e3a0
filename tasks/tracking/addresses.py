"""Tracking URIs: their scheme, and credentials that must not show."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote, urlsplit, urlunsplit

DATABASES = {"sqlite": None, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
"""Scheme → default port."""


def scheme(uri: str) -> str:
    return urlsplit(uri).scheme.partition("+")[0]


def without_credentials(text: str) -> str:
    return re.sub(r"//[^/\s]+@", "//", text)


def lend_credentials(uri: str) -> str:
    """``uri`` without user and password, which MLflow then takes from the environment.

    MLflow and requests put the URI into many of their errors.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or not parts.username:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
