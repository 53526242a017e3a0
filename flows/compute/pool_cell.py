"""The ``cell`` deployment: one cell of a sweep, on whatever machine has taken it from a pool.

Imports little: the devices must be chosen before any library looks for them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.states import Cancelled, Failed

from configs.schema import SweepConfig
from flows.compute.cancelling import ending_with, over
from flows.compute.devices import devices, devices_of, environment_of, lease
from flows.serve.access import ALLOW_TRUST, trust_allowed
from tasks.store.home import home, sweep_folder

_LAG_SECONDS = 60.0
"""How long a shared folder may hide what another machine wrote."""


@flow(name="cell", persist_result=False)
def run_pool_cell(
    config: SweepConfig,
    model: str,
    method: str,
    target: str,
    seed: int,
    fingerprint: str,
    sources: dict[str, Any],
    sweep: str,
    selection: str = "",
) -> Any:
    """Compute one cell of a sweep that another machine started.

    Args:
        config: the whole sweep, as resolved.
        model: one of its models.
        method: one of its methods or variants.
        target: one of its targets, such as 0.5 or 2:4.
        seed: one of its seeds.
        fingerprint: of the cell, as the sweep knows it.
        sources: the digests of models and texts, as the sweep read them.
        sweep: id of the sweep's flow run.
        selection: one of its selections; empty where it has none.
    """
    if over(UUID(sweep)):
        return Cancelled(message="its sweep has ended")
    if problem := _not_trusted(config) or _not_shared(config.name):
        return Failed(message=problem)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with ending_with(UUID(sweep)), _lent(config):
        from flows.cell import run_cell
        from tasks.steps.session import session

        plan = session().plan(config, sources)
        found = plan.cell(model, method, target, seed, selection)
        if found.fingerprint != fingerprint:
            return Failed(message=_other_cell(config))
        return run_cell.fn(plan.config, model, method, target, seed, selection)


def _not_trusted(config: SweepConfig) -> str:
    """What would run code that this machine's operator has not allowed; empty when nothing.

    Whoever reaches Prefect's API can send a cell, so the configuration alone says nothing.
    """
    asked = [name for name, value in config.trust.model_dump().items() if value]
    if not asked or trust_allowed():
        return ""
    return (
        f"trust: {', '.join(asked)}: the worker on {socket.gethostname()} does not allow it; "
        f"where every sender is trusted, start it with {ALLOW_TRUST}=1 in its environment"
    )


def _not_shared(name: str) -> str:
    """Why this machine cannot compute for the sweep; empty when it can."""
    host = socket.gethostname()
    if not os.environ.get("SECATEUR_HOME"):
        return (
            f"the worker on {host} has no SECATEUR_HOME: "
            "start it with the shared folder that the sweep writes to"
        )
    sweeps = sweep_folder(name).parent
    deadline = time.monotonic() + _LAG_SECONDS
    # A network file system may remember for a while that a file was not there; listings are newer.
    while name not in _listing(sweeps):
        if not sweeps.is_dir() or time.monotonic() > deadline:
            return (
                f"SECATEUR_HOME of the worker on {host} is {home()}, and that is not the folder "
                "that the sweep writes to: it must be the same shared folder"
            )
        time.sleep(1.0)
    return ""


def _listing(folder: Path) -> set[str]:
    with contextlib.suppress(OSError):
        return {path.name for path in folder.iterdir()}
    return set()


def _other_cell(config: SweepConfig) -> str:
    from tasks.runtime.environment import code_version

    return (
        f"the worker on {socket.gethostname()} (secateur {code_version()}) understands this cell "
        f"of {config.name} otherwise than the machine that started the sweep: "
        "install the same version on both, and of packages that bring methods and measures"
    )


@contextlib.contextmanager
def _lent(config: SweepConfig) -> Iterator[None]:
    """Where a machine has several GPUs, see only those that this cell was lent."""
    known = devices()
    if not known:
        yield
        return
    with lease(known, devices_of(config, len(known))) as lent:
        os.environ.update(environment_of(lent))
        yield
