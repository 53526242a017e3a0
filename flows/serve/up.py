"""``secateur up``: Prefect, MLflow and the deployments on this machine, until it is told to end.

Three children: the Prefect server, the MLflow server, and the worker that runs what the page
triggers. Each reads a pipe that ends with this process, so none outlives it. A lock in the home
keeps a second one out; what a hard kill left behind is found by its mark and removed by the next.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape

from configs.errors import ConfigurationError
from flows.ending import Interrupted, interruptible
from flows.serve import running
from flows.serve.auth import kept_in, require
from flows.serve.embedded import reachable
from flows.serve.running import Running
from flows.serve.service import listen
from flows.serve.services import Services, UpOptions, say
from flows.serve.settings import LOOPBACK, external_mlflow
from tasks.runtime.links import redacted
from tasks.store.home import home, require_writable


def up(options: UpOptions, console: Console) -> int:
    """Serve until a signal comes or a child ends; the exit status.

    Raises:
        ConfigurationError: a port is taken, or another one serves this home.
        ServerError: a server did not start.
    """
    root = home()
    require_writable(root)
    if os.environ.get("PREFECT_API_URL"):
        raise ConfigurationError(
            "PREFECT_API_URL",
            redacted(os.environ["PREFECT_API_URL"]),
            "secateur up starts a Prefect server of its own",
            "Unset it here; a machine that joins another server starts a worker instead",
        )
    # The end itself is not interrupted: it closes the runs of what it ends.
    with _only_one(root), interruptible(again=signal.SIG_IGN):
        try:
            return _serve(options, root, console)
        except Interrupted:  # before anything was started
            return 0


@contextlib.contextmanager
def _only_one(root: Path) -> Iterator[None]:
    (root / "locks").mkdir(exist_ok=True)
    lock = FileLock(root / "locks" / "up.lock", thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        known = running.written(root)
        where = f": Prefect {known.prefect}, MLflow {known.mlflow}" if known else ""
        raise ConfigurationError(
            "SECATEUR_HOME",
            root,
            f"secateur up serves this home already{where}",
            "Use that one, end it first, or name another home",
        ) from None
    try:
        yield
    finally:
        lock.release()


def _serve(options: UpOptions, root: Path, console: Console) -> int:
    _warn(options, console)
    _ask(options, root, console)
    if (former := running.written(root)) and (count := former.kill_rest()):
        console.print(f"removed {count} processes that a killed secateur up had left")
    external = external_mlflow()
    if not external and options.mlflow_port == options.prefect_port:
        allowed = "it must be another than --prefect-port"
        raise ConfigurationError("--mlflow-port", options.mlflow_port, allowed)
    listener = listen(options.host, options.prefect_port, "--prefect-port")
    if not external:
        listen(options.host, options.mlflow_port, "--mlflow-port").close()
    shown = reachable(options.host)
    pid, created = running.this_process()
    record = Running(
        token=secrets.token_hex(16),
        pid=pid,
        created=created,
        prefect=f"http://{shown}:{listener.getsockname()[1]}",
        mlflow=redacted(external) if external else f"http://{shown}:{options.mlflow_port}",
    )
    running.write(root, record)
    services = Services(options, root, record, console)
    try:
        services.start(listener)
        services.announce()
        services.watch()
    except Interrupted:
        say(console, "stopping …")
        return 0
    finally:
        listener.close()
        services.stop()
        running.remove(root)
    return 1


def _ask(options: UpOptions, root: Path, console: Console) -> None:
    """Settle what the servers ask for, and say it once."""
    authentication = require(options.host, root)
    if not authentication.text:
        return
    text = f"both pages and every client ask for the authentication string in {kept_in(root)}"
    if authentication.made:
        text += f", USER:PASSWORD, shown here once:\n\n  {authentication.text}\n"
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _warn(options: UpOptions, console: Console) -> None:
    if options.host not in LOOPBACK:
        console.print(
            f"[bold yellow]warning:[/] {escape(options.host)} is reachable from other machines, "
            "and nothing is encrypted on the way: whoever knows the authentication string, or "
            "reads along, runs sweeps here",
            highlight=False,
        )
    if options.allow_trust:
        console.print(
            "[bold yellow]warning:[/] --allow-trust lets the form run code that comes with a model",
            highlight=False,
        )
