"""The ``secateur`` command. Heavy libraries load inside the commands: ``--help`` is quick."""

from __future__ import annotations

import functools
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec

import typer
from rich.console import Console

from flows.ending import Interrupted, interruptible, leave

CONFIG = Annotated[
    str, typer.Argument(metavar="CONFIG.yaml", help="A sweep file, or the name of a preset.")
]
SETTINGS = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change a field of the sweep file: --set seeds=[0,1], "
        "--set options.swiftprune.alpha=0.01. May be repeated.",
    ),
]

P = ParamSpec("P")
app = typer.Typer(
    name="secateur",
    help="Prune large language models and measure what it cost them.\n\n"
    "A sweep file names models, methods, sparsities and seeds; every step's result is kept below "
    "outputs/ (or SECATEUR_HOME) and computed once.\n\n"
    "Exit status: 0 all cells succeeded, 1 some failed, 2 wrong configuration or command line, "
    "128 and its number after a signal, such as 130 after Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


class _Terminal(Console):
    """Rich's, which ends the command as a signal would when nobody reads its output any more."""

    def on_broken_pipe(self) -> None:
        with suppress(SystemExit):
            super().on_broken_pipe()
        raise SystemExit(128 + signal.SIGPIPE)


console = _Terminal(soft_wrap=False)
errors = _Terminal(stderr=True, soft_wrap=True)


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Make a command of a function; at a signal it ends in order, with what it left cleared."""

    @functools.wraps(function)
    def interruptibly(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with interruptible():
                function(*args, **kwargs)
        except Interrupted as told:
            errors.print("interrupted; run the same command again to go on", highlight=False)
            raise typer.Exit(told.status) from None

    return app.command()(interruptibly)


@command
def run(
    config: CONFIG,
    settings: SETTINGS = None,
    work_pool: Annotated[
        str,
        typer.Option(
            "--work-pool",
            metavar="POOL",
            help="Let the workers of a Prefect work pool compute the cells. Needs PREFECT_API_URL, "
            "and a SECATEUR_HOME that all machines share.",
        ),
    ] = "",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show Prefect's own log on the terminal.")
    ] = False,
) -> None:
    """Run a sweep and print its table.

    What an earlier run computed is not computed again: the same command finishes an interrupted
    sweep. Try `secateur run quickstart`, or `secateur plan CONFIG.yaml` first.
    """
    sweep = _load(config, settings)
    from flows.commands.run import run_sweep

    raise typer.Exit(run_sweep(sweep, console, verbose=verbose, work_pool=work_pool))


@command
def plan(config: CONFIG, settings: SETTINGS = None) -> None:
    """Show the cells and steps of a sweep: cached, shared, or skipped and why; computes nothing."""
    sweep = _load(config, settings)
    from flows.commands.plan import show_plan

    show_plan(sweep, console)


@app.command()
def up(
    host: Annotated[
        str, typer.Option(help="Where both servers listen; another than loopback is reachable.")
    ] = "127.0.0.1",
    prefect_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of Prefect.")] = 4200,
    mlflow_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of MLflow.")] = 5000,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="What forms may read, by relative path; SECATEUR_DATA, else data/ in this folder.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name that browsers call this machine by."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many sweeps run at once.")] = 2,
    allow_trust: Annotated[
        bool,
        typer.Option("--allow-trust", help="Let forms turn on trust: code that models bring."),
    ] = False,
) -> None:
    """Serve the Prefect page, the MLflow dashboard and the sweep form on this machine.

    Over the same databases that `secateur run` writes. Ctrl-C ends all of it.
    """
    from flows.serve.access import data_folder
    from flows.serve.services import UpOptions
    from flows.serve.up import up as serve

    options = UpOptions(
        host=host,
        prefect_port=prefect_port,
        mlflow_port=mlflow_port,
        data=data or data_folder(),
        allow_trust=allow_trust,
        limit=limit,
        names=tuple(allow_host or ()),
    )
    raise typer.Exit(serve(options, console))


@command
def methods() -> None:
    """Show every pruning method: its options, their defaults, and the targets it takes."""
    from flows.commands.methods import show_methods

    show_methods(console)


@command
def measures() -> None:
    """Show every measure: its columns in results.csv, and its fields of a sweep file."""
    from flows.commands.measures import show_measures

    show_measures(console)


@command
def report(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="Name of a sweep that has run.")],
) -> None:
    """Write a sweep's results, plots and report again from what the store holds."""
    from flows.commands.report import rewrite_report

    rewrite_report(sweep, console)


@command
def export(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="Name of a sweep that has run.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="A new or empty folder.")],
    method: Annotated[str | None, typer.Option(help="Method or variant of the cell.")] = None,
    target: Annotated[str | None, typer.Option(help="Its target, such as 0.5 or 2:4.")] = None,
    model: Annotated[str | None, typer.Option(help="Its model, or the end of its path.")] = None,
    selection: Annotated[
        str | None, typer.Option(help="How its windows were chosen, such as coreset.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Its seed.")] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="safetensors: full size, for stock from_pretrained and vLLM; compact: what is "
            "left where heads and channels were removed, for load_pruned; stock: the same as an "
            "ordinary model of its family, where every block keeps as many.",
        ),
    ] = "safetensors",
) -> None:
    """Write one pruned model of a sweep as a folder of its own.

    Options that the sweep leaves no choice in may be left out.
    """
    from flows.commands.export import export_cell

    wanted = {"model": model, "method": method, "target": target, "seed": seed}
    wanted |= {"selection": selection}
    export_cell(sweep, wanted, to, form, console)


@command
def select(
    config: CONFIG,
    to: Annotated[Path, typer.Option("--to", metavar="FILE.jsonl", help="The file to write.")],
    budget: Annotated[
        str | None,
        typer.Option(
            help="How many windows, or per cent of the pool: 32 or 5%. "
            "Without it, calibration.samples."
        ),
    ] = None,
    settings: SETTINGS = None,
) -> None:
    """Choose calibration windows by their gradients and write them as JSON lines.

    `calibration.coreset` of the sweep file says how; nothing is pruned. Each line has a window's
    text and tokens, its source and offset there, its cluster and its weight.
    """
    sweep = _load(config, settings)
    from flows.commands.select import select_windows

    select_windows(sweep, to, budget, console)


@command
def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A result, in one of the forms above.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The result to compare it with.")],
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="COLUMN",
            help="A column of results.csv; else the first measured figure of both.",
        ),
    ] = None,
    other_home: Annotated[
        str | None,
        typer.Option(
            "--home",
            metavar="FOLDER",
            help="Look for B in this home, such as another machine's outputs/.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")] = False,
    questions: Annotated[
        int,
        typer.Option(
            "--questions",
            metavar="N",
            min=0,
            help="List N questions of tasks that A answers right and B does not.",
        ),
    ] = 0,
) -> None:
    """Say why two figures differ: which of their inputs do, what matters most first.

    Each of A and B is one of:

    - a cell of a sweep that has run, `SWEEP:METHOD@TARGET`, or its dense model, `SWEEP:dense`. With
      several seeds or models add them: `wide:wanda@0.5#1,model=gpt2`. What is not needed to tell
      cells apart may be left out, and what is missing is listed.

    - a cell in another folder: `/mnt/b/outputs/sweeps/wide:wanda@0.5`.

    - the id of a cell's run in MLflow, 32 hexadecimal digits.

    - a paper's figure: `paper-ast:ast@2:4,model=gpt2`; with `reported:` where it was also run here.

    Examples:

    `secateur diff quickstart:wanda@0.2 quickstart:swiftprune@0.2`

    `secateur diff mine:dense mine:wanda@0.5 --metric zero_shot/mean --questions 20` (what broke)

    `secateur diff mine:wanda@0.5 mine:wanda@0.5 --home /mnt/outputs` (another machine)

    `secateur diff paper-ast:wanda@2:4,model=gpt2 reported:paper-ast:wanda@2:4,model=gpt2`

    Nothing is computed. Exit status: 0 compared, 2 there is no such result.
    """
    from flows.commands.diff import show_diff

    show_diff(a, b, metric, console, home_b=other_home, as_json=as_json, questions=questions)


@command
def gc(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
) -> None:
    """Drop artifacts that no sweep needs, and what killed processes left behind.

    A sweep needs its artifacts as long as its folder below sweeps/ is there.
    """
    from flows.commands.gc import collect_garbage

    collect_garbage(console, dry_run=dry_run)


def _load(config: str, settings: list[str] | None) -> Any:
    """The sweep, before a command's own imports: what is wrong with it waits for none of them."""
    from configs.yaml_file import read, validate
    from tasks.models.sources.sources import check_models

    raw = read(config, settings or [], base=Path.cwd())
    check_models(raw, base=Path.cwd())
    return validate(raw)


def main() -> NoReturn:
    """Entry point of the command."""
    # Before anything imports torch or transformers; all are silenced noise, not behaviour.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings = logging.StreamHandler()
    warnings.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("secateur").addHandler(warnings)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # it is None where a shell has closed it
            stream.reconfigure(errors="replace")  # a terminal may know fewer characters than we use
    logging.raiseExceptions = False  # a log that cannot be written costs no traceback a line
    leave(status())


def status() -> int:
    """Run the command line; the exit status. No exception leaves it, and each is told in a line."""
    try:
        app()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except Exception as error:  # noqa: BLE001 (a log keeps its traceback)
        from flows.faults import tell

        return tell(error, _say)
    return 0


def _say(kind: str, text: str) -> None:
    from rich.markup import escape

    from tasks.runtime.links import redacted

    head = f"[bold red]{kind}:[/] " if kind else ""
    errors.print(f"{head}{escape(redacted(text))}", highlight=False)


if __name__ == "__main__":
    main()
