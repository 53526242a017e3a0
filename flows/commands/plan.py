"""``secateur plan``: what would be done, and what the store holds of it."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from configs.schema import SweepConfig
from flows.commands.run import print_notes
from tasks.plan.plan import Cell, Plan, steps_of
from tasks.steps.session import session
from tasks.store.context import Context
from tasks.store.steps import Step, walk


def show_plan(config: SweepConfig, console: Console) -> None:
    """Print the steps and cells of a sweep; loads no weights and writes nothing.

    Raises:
        ConfigurationError: as a run would.
    """
    here = session()
    with console.status("looking into models and texts"):  # seconds, of a GGUF file
        plan = here.checked_plan(config, download=False)
    context = here.context(plan.config)
    console.print(_shared_steps(plan, context))
    console.print(_cells(plan, context))
    if plan.skipped:
        console.print(_skipped(plan))
    print_notes(plan, context, console)
    dropped = {cell.checkpoint for cell in plan.cells}
    steps = [step for step in plan.steps() if step not in dropped and step.outside is None]
    cached = sum(context.find(step) is not None for step in steps)
    console.print(
        f"{len(plan.cells)} cells, {len(plan.skipped)} skipped; "
        f"{len(steps)} steps, {cached} cached, {len(steps) - cached} to compute "
        f"(dtype {plan.config.dtype})",
        highlight=False,
    )


def _status(step: Step, context: Context) -> str:
    return "[green]cached[/]" if context.find(step) else "to compute"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _shared_steps(plan: Plan, context: Context) -> Table:
    table = _table("Shared steps, once each", "of", "step", "used by", "status", "fingerprint")
    behind = [set(walk(cell.goals)) for cell in plan.cells]
    dense = walk(goal for model in plan.models for goal in model.goals)
    for step in dict.fromkeys([*dense, *plan.shared(plan.cells)]):
        if step.outside is None:
            users = sum(step in steps for steps in behind)
            table.add_row(
                escape(step.group),
                step.label,
                f"{users} cells" if users else "its own row",
                _status(step, context),
                step.fingerprint[:12],
            )
    return table


def _cells(plan: Plan, context: Context) -> Table:
    axes = dict.fromkeys(axis for cell in plan.cells for axis in cell.axes)
    table = _table("Cells", *axes, "prune", "measure", "fingerprint")
    seen: dict[Step, str] = {}
    for cell in plan.cells:
        table.add_row(
            *(escape(str(value)) for value in cell.axes.values()),
            _pruned(cell, context, seen),
            _measured(cell, context),
            cell.fingerprint[:12],
        )
    return table


def _pruned(cell: Cell, context: Context, seen: dict[Step, str]) -> str:
    """Status of the pruning step; a step that an earlier cell has is named as shared."""
    mine = f"{cell.selection} seed {cell.seed}".lstrip()
    former = seen.setdefault(cell.pruned, mine)
    if former != mine:
        return f"shared with {former}"
    return _status(cell.pruned, context)


def _measured(cell: Cell, context: Context) -> str:
    """How many of the steps that measure the cell are in the store."""
    steps = steps_of(cell.measured)
    there = sum(context.find(step) is not None for step in steps)
    if there == len(steps):
        return "[green]cached[/]"
    return f"{there} of {len(steps)} cached" if there else f"{len(steps)} to compute"


def _skipped(plan: Plan) -> Table:
    table = _table("Skipped", "model", "method", "target", "why")
    for entry in {(s.model, s.method, s.target, s.reason) for s in plan.skipped}:
        table.add_row(*(escape(text) for text in entry))
    return table
