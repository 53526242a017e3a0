"""``secateur measures``: what can be measured, and what a sweep's ``evaluation`` says about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, RootModel
from rich.console import Console
from rich.markup import escape

from tasks.measures.registry import measures


def show_measures(console: Console) -> None:
    """Print every registered measure."""
    scopes = {"subject": "the dense and every pruned model", "sweep": "several cells together"}
    for name, measure in measures().items():
        console.print(f"[bold]{name}[/]  {escape(measure.summary)}", highlight=False)
        console.print(f"  of:      {scopes[measure.scope]}; version {measure.version}")
        console.print(f"  columns: {escape(', '.join(measure.writes))}", highlight=False)
        for line in _fields("evaluation", measure.Settings):
            console.print(escape(line), highlight=False)
        console.print()


def _fields(prefix: str, settings: type[BaseModel]) -> Iterator[str]:
    """A line for each field of a sweep file, those of its parts included, and what it means."""
    for name, field in settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from _fields(f"{prefix}.{name}", type(default))
        else:
            plain = RootModel[Any](default).model_dump(mode="json", exclude_defaults=True)
            shown = json.dumps(plain)
            yield f"  {prefix}.{name} = {shown}\n      {field.description or ''}"
            # What is off where nothing is said has fields all the same.
            for part in get_args(field.annotation):
                if isinstance(part, type) and issubclass(part, BaseModel) and default is None:
                    yield from _fields(f"{prefix}.{name}", part)
