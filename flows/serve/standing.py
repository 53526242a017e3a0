"""Both servers by themselves, each behind the gate: for a cluster, and for ``secateur up``.

    python -m flows.serve.standing prefect HOST PORT
    python -m flows.serve.standing mlflow  HOST PORT

Instead of ``prefect server start`` and ``mlflow server``: Prefect's parses what any page sends, and
MLflow's takes every page of this machine for its own and asks for a password only with further
packages, a database of users and a key.

Environment: PREFECT_SERVER_API_AUTH_STRING (USER:PASSWORD, asked for beyond loopback),
SECATEUR_HOSTS (the names that browsers may call the server by, with commas), and of MLflow
MLFLOW_BACKEND_STORE_URI and MLFLOW_ARTIFACTS_DESTINATION.
"""

from __future__ import annotations

import contextlib
import os
import sys

import uvicorn

from flows.compute.overlap import held
from flows.serve.auth import ASKED, NEEDED, complete
from flows.serve.embedded import HOSTS, SILENT
from flows.serve.gate import INLINE_SCRIPTS, Gate
from flows.serve.running import TOKEN
from flows.serve.settings import LOOPBACK, host_names
from tasks.store.home import home

PUBLISHED = "SECATEUR_PUBLISHED"
"""Where a container's port is reachable; it listens everywhere in its own network itself."""
_CLOSED = ("/ajax-api/3.0/mlflow/assistant",)
"""MLflow's assistant runs commands for whoever is on this machine."""


def asked(host: str) -> str:
    """The authentication string that a server on ``host`` asks for; empty: none.

    Raises:
        SystemExit: other machines reach it, and there is none.
    """
    text = os.environ.get(ASKED, "")
    if complete(text):
        return text
    if text and not text.endswith(":"):
        sys.exit(f"{ASKED}: {NEEDED}")
    os.environ.pop(ASKED, None)  # an empty password is none, and Prefect would ask for it
    reached = os.environ.get(PUBLISHED) or host
    if reached not in LOOPBACK:
        sys.exit(f"{reached} is reachable from other machines: set {ASKED} to USER:PASSWORD")
    return ""


def gated(server: str, host: str) -> Gate:
    """A server's application behind the gate."""
    names = os.environ.get(HOSTS, "").split(",") if os.environ.get(HOSTS) else host_names(host)
    auth = asked(host)
    if server == "prefect":
        # Where the page is, there is its API.
        if not os.environ.get("PREFECT_SERVER_UI_API_URL"):
            os.environ.setdefault("PREFECT_UI_API_URL", "/api")
        from flows.serve import prefect_app

        return Gate(prefect_app.application(), names)  # it asks for the string itself
    from tasks.tracking.server import application, end_abandoned

    database = os.environ["MLFLOW_BACKEND_STORE_URI"]
    app = application(database, os.environ["MLFLOW_ARTIFACTS_DESTINATION"])
    if os.environ.get(TOKEN):  # of a `secateur up`, whose home's sweeps these are
        with contextlib.suppress(Exception):  # the next sweep ends them
            end_abandoned(database, home(), held)
    # It also takes files.
    return Gate(app, names, scripts=INLINE_SCRIPTS, json_only=False, auth=auth, closed=_CLOSED)


if __name__ == "__main__":
    _, given, place, number = sys.argv
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
    uvicorn.run(
        gated(given, place), host=place, port=int(number), log_level="warning", lifespan="on"
    )
