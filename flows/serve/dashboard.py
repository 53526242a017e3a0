"""MLflow's server behind the gate: ``python -m flows.serve.dashboard HOST PORT ARTIFACTS``.

Instead of ``mlflow server``: that takes requests of every page of this machine, whatever its port,
and asks for a password only with further packages, a database of users and a key of its own.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import uvicorn

from flows.serve.auth import ASKED
from flows.serve.embedded import HOSTS
from flows.serve.gate import INLINE_SCRIPTS, Gate
from tasks.tracking.server import application

_CLOSED = ("/ajax-api/3.0/mlflow/assistant",)
"""MLflow's assistant runs commands for whoever is on this machine."""


def main(host: str, port: int, artifacts: Path) -> None:
    """Serve the database of MLFLOW_BACKEND_STORE_URI until a signal comes."""
    gate = Gate(
        application(os.environ["MLFLOW_BACKEND_STORE_URI"], artifacts),
        os.environ[HOSTS].split(","),
        scripts=INLINE_SCRIPTS,
        json_only=False,  # it also takes files
        auth=os.environ.get(ASKED, ""),
        closed=_CLOSED,
    )
    uvicorn.run(gate, host=host, port=port)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
