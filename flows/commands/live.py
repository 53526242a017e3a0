"""The terminal while a sweep runs: a line for each finished piece, a bar for the rest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tasks.runtime.progress import Event
from tasks.steps.session import session

_SHORT = 0.05
"""Seconds below which a piece of work is no news."""


class LiveView:
    """Prints finished work and keeps the running work's bars at the bottom."""

    def __init__(self, console: Console, cells: int) -> None:
        self.console = console
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._cells = self.progress.add_task("[bold]cells", total=cells)
        self._running: dict[tuple[str, str], TaskID] = {}

    def __call__(self, event: Event) -> None:
        key = (event.group, event.name)
        if event.name == "cell":
            self._cell(event)
        elif event.status == "started":
            label = escape(f"{event.group}: {event.name}")
            self._running[key] = self.progress.add_task(label, total=None)
        elif event.status == "advanced":
            if key in self._running:
                self.progress.update(self._running[key], completed=event.done, total=event.total)
        else:
            if key in self._running:
                self.progress.remove_task(self._running.pop(key))
            told = event.status == "computed" and event.seconds >= _SHORT
            if told or event.status == "failed":
                self._finished(event)

    def _cell(self, event: Event) -> None:
        if event.status in ("computed", "reused", "failed"):
            self.progress.advance(self._cells)
            self._finished(event)

    def _finished(self, event: Event) -> None:
        sign, style = {
            "computed": ("done", "green"),
            "reused": ("kept", "dim"),
            "failed": ("FAIL", "bold red"),
        }[event.status]
        what = event.group if event.name == "cell" else f"{event.group}: {event.name}"
        if event.name != "cell" and event.status == "computed":
            style = "dim"
        seconds = f" {event.seconds:7.1f} s" if event.status != "reused" else " " * 10
        message = f"  {escape(event.message)}" if event.message else ""
        self.console.print(
            f"[{style}]{sign}[/]{seconds}  {escape(what)}{message}", highlight=False, soft_wrap=True
        )


@contextlib.contextmanager
def live_view(console: Console, cells: int) -> Iterator[None]:
    """Show progress while inside; without a terminal, only the lines."""
    view = LiveView(console, cells)
    with (
        session().progress.listening(view),
        view.progress if console.is_terminal else contextlib.nullcontext(),
    ):
        yield
