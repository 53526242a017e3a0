"""Flow runs whose process is gone: the server would show them as running for ever.

Plain HTTP, since importing Prefect takes seconds and this runs while ``up`` ends.
"""

from __future__ import annotations

import contextlib
import json
import urllib.request
from typing import Any

import psutil

from flows.compute.overlap import held
from flows.serve.auth import auth_header

_OPEN = ["RUNNING", "PENDING", "CANCELLING"]
_PAGE = 200


def close_lost(api: str, pool: str, worker: str, message: str) -> int:
    """Mark runs of ``pool`` that ran on this machine and have no process any more as crashed.

    Prefect records a run's process and not its machine, so where workers of other machines serve
    the pool as well, nothing can be told, and nothing is marked.

    Args:
        api: address of Prefect's API.
        worker: name of this machine's worker.
        message: what the runs' state is to say.

    Returns:
        How many there were.
    """
    workers = _post(f"{api}/work_pools/{pool}/workers/filter", {"limit": _PAGE})
    if any(entry["name"] != worker and entry["status"] == "ONLINE" for entry in workers):
        return 0
    wanted = {
        "flow_runs": {"state": {"type": {"any_": _OPEN}}},
        "work_pools": {"name": {"any_": [pool]}},
        "limit": _PAGE,
    }
    closed = 0
    for run in _post(f"{api}/flow_runs/filter", wanted):
        if not _lost(run):
            continue
        cancelled = run["state_type"] == "CANCELLING"
        kind, name = ("CANCELLED", "Cancelled") if cancelled else ("CRASHED", "Crashed")
        state = {"type": kind, "name": name, "message": message}
        _post(f"{api}/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
        _close_children(api, run["id"], state)
        closed += 1
    return closed


def close_abandoned(api: str, mine: str = "") -> int:
    """Mark sweeps of this home's command line whose process is gone as crashed, and their cells.

    Prefect does not record what process runs them. Each holds the lock of its sweep's name.

    Args:
        api: address of Prefect's API, whose runs without a deployment are all of this home.
        mine: the sweep whose lock the caller holds and whose run it has not begun.

    Returns:
        How many there were.
    """
    wanted = {
        "flows": {"name": {"any_": ["sweep"]}},
        "flow_runs": {
            "state": {"type": {"any_": _OPEN}},
            "deployment_id": {"is_null_": True},
            "parent_task_run_id": {"is_null_": True},
        },
        "limit": _PAGE,
    }
    state = {"type": "CRASHED", "name": "Crashed", "message": "its process is gone"}
    closed = 0
    for run in _post(f"{api}/flow_runs/filter", wanted):
        # Anybody may rename a run.
        config = (run.get("parameters") or {}).get("config")
        name = str(config.get("name", "")) if isinstance(config, dict) else ""
        if name == mine or not held(name):
            _post(f"{api}/flow_runs/{run['id']}/set_state", {"state": state, "force": True})
            _close_children(api, run["id"], state)
            closed += 1
    return closed


def _lost(run: dict[str, Any]) -> bool:
    """Whether the run's process on this machine is gone, or whoever was to start it is."""
    pid = str(run.get("infrastructure_pid") or "").rpartition(":")[2]
    if not pid.isdigit():
        return run["state_type"] == "PENDING" and not pid
    try:
        # Another process may have the number by now.
        return psutil.Process(int(pid)).environ().get("PREFECT__FLOW_RUN_ID") != run["id"]
    except (psutil.Error, OSError):
        return True


def _close_children(api: str, parent: str, state: dict[str, Any]) -> None:
    """The cells that a lost sweep was at."""
    wanted = {
        "flow_runs": {
            "parent_flow_run_id": {"any_": [parent]},
            "state": {"type": {"any_": _OPEN}},
        },
        "limit": _PAGE,
    }
    with contextlib.suppress(OSError):
        for run in _post(f"{api}/flow_runs/filter", wanted):
            if run.get("deployment_id") is None:  # one that a pool took lives on its own
                _post(f"{api}/flow_runs/{run['id']}/set_state", {"state": state, "force": True})


def _post(url: str, body: dict[str, Any]) -> Any:
    headers = {"Content-Type": "application/json", **auth_header()}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return json.loads(answer.read() or b"null")
