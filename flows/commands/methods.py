"""``secateur methods``: every pruning method, its options, and the targets that it takes."""

from __future__ import annotations

from dataclasses import fields
from typing import get_type_hints

from rich.console import Console
from rich.markup import escape

from tasks.pruning.core.registry import methods
from tasks.pruning.core.targets import Fraction, SemiStructured


def show_methods(console: Console) -> None:
    """Print every registered method."""
    kinds = {Fraction: "fractions (0.5)", SemiStructured: "keep:group (2:4)"}
    for name, method in methods().items():
        console.print(f"[bold]{name}[/]  {escape(method.summary)}", highlight=False)
        console.print(f"  targets: {', '.join(kinds[kind] for kind in method.targets)}")
        console.print(f"  source:  {escape(method.source)}", highlight=False)
        if departs := method().departs:
            told = f"  departs from its paper by default: {departs}"
            console.print(escape(told), highlight=False)
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
