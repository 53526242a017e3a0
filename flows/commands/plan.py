"""``secateur plan`` and ``secateur methods``: what would be done, and with what."""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from configs.schema import SweepConfig
from tasks.models.prepare import needs_preparation
from tasks.plan.plan import Cell, Plan
from tasks.pruning.core.registry import methods
from tasks.pruning.core.targets import Fraction, SemiStructured
from tasks.steps.planning import plan_of, store
from tasks.steps.prepare import check_windows
from tasks.store.store import Step, Store


def show_plan(config: SweepConfig, console: Console) -> None:
    """Print the steps and cells of a sweep; loads no weights and writes nothing.

    Raises:
        ConfigurationError: as a run would.
    """
    plan, kept = plan_of(config), store()
    check_windows(plan, kept, download=False)
    console.print(_shared_steps(plan, kept))
    console.print(_cells(plan, kept))
    if plan.skipped:
        console.print(_skipped(plan))
    steps = [step for step in plan.steps() if step.name != "checkpoint"]
    cached = sum(kept.find(step) is not None for step in steps)
    console.print(
        f"{len(plan.cells)} cells, {len(plan.skipped)} skipped; "
        f"{len(steps)} steps, {cached} cached, {len(steps) - cached} to compute "
        f"(dtype {plan.config.dtype})",
        highlight=False,
    )


def _status(step: Step, kept: Store) -> str:
    return "[green]cached[/]" if kept.find(step) else "to compute"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _shared_steps(plan: Plan, kept: Store) -> Table:
    table = _table("Shared steps, once each", "model", "step", "used by", "status", "fingerprint")
    for model in plan.models:
        spec, cells = model.model.spec, [cell for cell in plan.cells if cell.model is model]
        users = f"{len(cells)} cells"
        lines: list[tuple[str, Step, str]] = []
        if needs_preparation(model.model):
            lines.append(("prepare as a folder", model.prepared, users))
        if model.calibration:
            count = sum(cell.method.uses_calibration for cell in cells)
            lines.append(("tokenise calibration", model.calibration.step, f"{count} cells"))
        if model.training:
            count = sum(cell.method.uses_training for cell in cells)
            lines.append(("tokenise training", model.training.step, f"{count} cells"))
        for name, windows in model.evaluations.items():
            lines.append((f"tokenise {name}", windows.step, users))
        for label, step in model.dense.labelled():
            lines.append((f"{label} of the dense model", step, users))
        for windows_used, step in model.statistics.items():
            count = sum(cell.statistics_windows == windows_used for cell in cells)
            lines.append((f"statistics, {windows_used} windows", step, f"{count} cells"))
        for label, step, used in lines:
            table.add_row(escape(spec), label, used, _status(step, kept), step.fingerprint[:12])
    return table


def _cells(plan: Plan, kept: Store) -> Table:
    table = _table(
        "Cells", "model", "method", "target", "seed", "prune", "measure", "fingerprint"
    )  # fmt: skip
    seen: dict[str, str] = {}
    for cell in plan.cells:
        table.add_row(
            escape(cell.model.model.spec),
            cell.name,
            str(cell.target),
            str(cell.seed),
            _pruned(cell, kept, seen),
            _measured(cell, kept),
            cell.fingerprint[:12],
        )
    return table


def _pruned(cell: Cell, kept: Store, seen: dict[str, str]) -> str:
    """Status of the pruning step; a step that an earlier cell has is named as shared."""
    former = seen.setdefault(cell.pruned.fingerprint, f"seed {cell.seed}")
    if former != f"seed {cell.seed}":
        return f"shared with {former}"
    return _status(cell.pruned, kept)


def _measured(cell: Cell, kept: Store) -> str:
    """How many of the steps that measure the cell are in the store."""
    steps = list(cell.measures.steps())
    there = sum(kept.find(step) is not None for step in steps)
    if there == len(steps):
        return "[green]cached[/]"
    return f"{there} of {len(steps)} cached" if there else f"{len(steps)} to compute"


def _skipped(plan: Plan) -> Table:
    table = _table("Skipped", "model", "method", "target", "why")
    for entry in {(s.model, s.method, s.target, s.reason) for s in plan.skipped}:
        table.add_row(*(escape(text) for text in entry))
    return table


def show_methods(console: Console) -> None:
    """Print every registered method."""
    kinds = {Fraction: "fractions (0.5)", SemiStructured: "keep:group (2:4)"}
    for name, method in methods().items():
        console.print(f"[bold]{name}[/]  {escape(method.summary)}", highlight=False)
        console.print(f"  targets: {', '.join(kinds[kind] for kind in method.targets)}")
        console.print(f"  source:  {escape(method.source)}", highlight=False)
        hints = get_type_hints(method)
        for entry in fields(method):
            allowed = _allowed(hints[entry.name], entry.metadata)
            console.print(
                f"  options.{name}.{entry.name} = {entry.default}  {escape(allowed)}\n"
                f"      {escape(entry.metadata['doc'])}",
                highlight=False,
            )
        console.print()


def _allowed(kind: object, limits: object) -> str:
    values = getattr(kind, "__args__", None)
    if values:
        return f"[{' | '.join(map(str, values))}]"
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
    bounds = [f"{signs[key]} {value}" for key, value in dict(limits).items() if key in signs]  # type: ignore[call-overload]
    return f"[{getattr(kind, '__name__', kind)}{', ' if bounds else ''}{', '.join(bounds)}]"
