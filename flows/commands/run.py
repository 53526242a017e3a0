"""Runs a sweep from the command line: server, flow, live view, table."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from configs.schema import SweepConfig
from flows.compute.overlap import exclusive
from flows.serve.embedded import EmbeddedServer, api, own_database, prefect_environment
from flows.serve.lost_runs import close_abandoned
from flows.serve.proxies import reach_directly
from flows.serve.running import use_running
from tasks.plan.plan import Plan
from tasks.plan.shared_text import shared_text
from tasks.reporting.timings import Timings
from tasks.runtime.links import redacted
from tasks.store.context import Context
from tasks.store.home import home, require_writable, sweep_folder


def run_sweep(config: SweepConfig, console: Console, *, verbose: bool, work_pool: str = "") -> int:
    """Run a sweep in this process and print its results.

    Args:
        work_pool: the Prefect work pool whose workers compute the cells; empty: this machine.

    Returns:
        The exit status: 0 when every cell succeeded, else 1.

    Raises:
        ConfigurationError: before anything is computed.
    """
    require_writable(home())
    os.environ.update(prefect_environment(home()))
    reach_directly()
    joined = use_running(home())
    # Another home's sweeps in the same database are not this one's to judge.
    ours = own_database(home()) and (joined or not os.environ.get("PREFECT_API_URL"))
    # Read when Prefect is imported, below.
    level = "INFO" if verbose else "CRITICAL"
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", level)
    from tasks.steps.session import session

    if work_pool:
        from flows.compute.pool_runs import check_pool

        check_pool(work_pool)
    session().plan(config)
    with exclusive(config, lambda reason: console.print(reason, highlight=False)):
        return _run(config, console, work_pool, ours)


def _run(config: SweepConfig, console: Console, work_pool: str, ours: bool) -> int:
    from tasks.steps.session import session

    # The server takes seconds to start, and so does tokenising: side by side.
    server = None if os.environ.get("PREFECT_API_URL") else EmbeddedServer(home())
    try:
        with console.status("looking into models and texts"):  # seconds, of a GGUF file
            plan = session().checked_plan(config)
        log_to_file(config.name)
        _announce(console, config, len(plan.cells), len(plan.skipped))
        print_notes(plan, session().context(plan.config), console)
        from prefect import tags

        from flows.commands.live import live_view
        from flows.compute.heartbeats import TAG
        from flows.sweep import sweep
        from tasks.steps.record import recorder_of

        # MLflow takes seconds to import and open, as the server does to start: side by side.
        recorder_of(plan, session())
        gc.freeze()  # what is imported stays; to look through it at each release takes a second
        with api(server):
            if ours:
                with contextlib.suppress(OSError, ValueError):  # the next run closes them
                    close_abandoned(os.environ["PREFECT_API_URL"], config.name)
            with live_view(console, len(plan.cells)), tags(TAG):
                state = sweep(plan.config, work_pool, return_state=True)
            return _show(console, config.name, state)
    finally:
        if server:
            server.stop()


def _announce(console: Console, config: SweepConfig, cells: int, skipped: int) -> None:
    console.print(
        f"[bold]{escape(config.name)}[/]: {cells} cells = {len(config.models)} model(s) × "
        f"{len(config.entries)} method(s) × {len(config.targets)} target(s) × "
        + (f"{len(config.selections)} selection(s) × " if config.selections else "")
        + f"{len(config.seeds)} seed(s)"
        + (f", {skipped} skipped (secateur plan says why)" if skipped else ""),
        highlight=False,
    )


def print_notes(plan: Plan, context: Context, console: Console) -> None:
    """What a reader has to know of the models and texts that were named, and of the name."""
    of_models = (note for model in plan.models for note in model.notes)
    of_texts = (*plan.text_notes, *shared_text(plan, context))
    for note in (*of_models, *plan.option_notes, *of_texts, *_replaced(plan)):
        console.print(f"[yellow]note:[/] {escape(note)}", highlight=False, soft_wrap=True)


def _replaced(plan: Plan) -> list[str]:
    """That results of another sweep of this name go."""
    from tasks.reporting.rows import completed, read_results

    name = plan.config.name
    try:
        former = completed(read_results(sweep_folder(name)))
    except (OSError, ValueError):
        return []
    others = former - {row.fingerprint for row in (*plan.models, *plan.cells)}
    if not others:
        return []
    return [
        f"{name} has {len(others)} measured rows that this sweep has not: its results are written "
        "anew without them, and gc drops what only they needed. --set name=… keeps them"
    ]


def log_to_file(sweep: str) -> None:
    """Keep everything that is logged; Prefect's loggers pass theirs on to the root's handlers."""
    path = home() / "logs" / f"{sweep}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)


def _show(console: Console, name: str, state: object) -> int:
    from tasks.reporting.rows import read_results
    from tasks.reporting.tables import errors_text, results_table
    from tasks.steps.report import figures_in

    folder = sweep_folder(name)
    if getattr(state, "is_cancelled", bool)():
        message = escape(str(getattr(state, "message", state)))
        console.print(f"[bold]cancelled:[/] {message}", highlight=False, soft_wrap=True)
        return 130
    if _timings_of(name) is None:
        message = escape(str(getattr(state, "message", state)))
        console.print(f"[bold red]the sweep failed:[/] {message}", highlight=False, soft_wrap=True)
        return 1
    rows = read_results(folder)
    console.print()
    console.print(results_table(rows, figures_in(rows), console.width))
    if problems := errors_text(rows, console.width):
        console.print(problems)
    timings = _timings_of(name)
    if timings and timings.cells:
        console.print(timings.table())
    _say_where(console, folder)
    failed = [row for row in rows if row["status"] == "failed"]
    ended = getattr(state, "is_completed", bool)() and getattr(state, "name", "") == "Completed"
    if not ended and not failed:
        message = escape(str(getattr(state, "message", state)))
        console.print(f"[bold red]the sweep failed:[/] {message}", highlight=False, soft_wrap=True)
    return 0 if ended and not failed else 1


def _timings_of(name: str) -> Timings | None:
    """Of this process's run; None when it did not come as far as its report."""
    from tasks.steps.session import session

    return session().timings.get(name)


def _say_where(console: Console, folder: Path) -> None:
    from tasks.steps.session import session

    shown = os.path.relpath(folder) if folder.is_relative_to(Path.cwd()) else str(folder)
    database = home() / "mlflow.db"
    inside = database.is_relative_to(Path.cwd())
    local = f"sqlite:///{os.path.relpath(database) if inside else database}"
    tracking = os.environ.get("MLFLOW_TRACKING_URI") or local
    lines = [
        f"report       {shown}/report.html and report.md",
        f"plots        {shown}/plots/",
        f"results      {shown}/results.csv",
        f"MLflow       {redacted(tracking)}",
    ]
    recorders = session().recorders.values()
    if reason := next((r.unavailable for r in recorders if r.unavailable), ""):
        lines.append(f"[yellow]not logged   {escape(reason)}; run the same command again[/]")
    lines += [
        "",
        "Next:",
        f"  {_command('secateur')} up",
        "      compare the runs in MLflow, start and schedule sweeps in Prefect, in a browser",
        f"  {_command('secateur')} run {shown}/config.yaml --set name=next --set 'targets=[0.6]'",
        "      another sparsity: what is shared is not computed again",
        f"  {_command('secateur')} methods",
        "      what else there is to try",
    ]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


def _command(name: str) -> str:
    """How to call an installed command from here: by name, or by path where PATH lacks it."""
    if shutil.which(name):
        return name
    path = Path(sys.prefix) / "bin" / name
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
