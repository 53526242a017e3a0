"""Addresses of the pages of Prefect and MLflow, where a run may link from one to the other.

They are known when ``secateur up`` runs, or when the variables are set by whoever runs the servers.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

MLFLOW_URL = "SECATEUR_MLFLOW_URL"
PREFECT_URL = "PREFECT_UI_URL"


def mlflow_page() -> str:
    """Where MLflow's page is, without credentials; empty when nobody said."""
    given = os.environ.get(MLFLOW_URL) or os.environ.get("MLFLOW_TRACKING_URI", "")
    if urlsplit(given).scheme not in ("http", "https"):
        return ""
    return redacted(given).rstrip("/")


_NAMES = r"(?:[^=&;?\s]*(?:passw|pwd|token|secret|key|credential)[^=&;?\s]*)"


def redacted(text: str) -> str:
    """``text`` without user, password and secret parameters in any address in it.

    Everything that is printed, logged or recorded and may hold an address goes through here.
    """
    plain = re.sub(r"//[^/\s]+@", "//", text)
    return re.sub(rf"([?&;]{_NAMES}=)[^&;\s'\"]+", r"\1…", plain, flags=re.IGNORECASE)
