"""What a sweep tells while it runs: a line for each finished piece and a bar for the rest, or, in a
log, a line a minute."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

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

from tasks.runtime.progress import Event, Pace
from tasks.steps.session import session

_SHORT = 0.05
"""Seconds below which a piece of work is no news."""
_BETWEEN = 60.0
"""Seconds between two lines of a log on the same piece."""


@dataclass
class _Running:
    """A piece of work at its bar.

    Attributes:
        told: its seconds at its last line.
    """

    bar: TaskID
    pace: Pace = field(default_factory=Pace)
    told: float = 0.0


class LiveView:
    """Prints finished work and keeps the running work's bars at the bottom."""

    def __init__(self, console: Console, cells: int = 0) -> None:
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
        self._cells = self.progress.add_task("[bold]cells", total=cells, visible=cells > 0)
        self._running: dict[tuple[str, str], _Running] = {}

    def __call__(self, event: Event) -> None:
        key = (event.group, event.name)
        if event.name == "cell":
            self._cell(event)
        elif event.status == "started":
            label = escape(f"{event.group}: {event.name}")
            self._running[key] = _Running(self.progress.add_task(label, total=None))
        elif event.status == "advanced":
            if running := self._running.get(key):
                self.progress.update(running.bar, completed=event.done, total=event.total)
                if not self.console.is_terminal:
                    self._under_way(event, running)
        else:
            if key in self._running:
                self.progress.remove_task(self._running.pop(key).bar)
            told = event.status == "computed" and event.seconds >= _SHORT
            if told or event.status == "failed":
                self._finished(event)

    def _cell(self, event: Event) -> None:
        if event.status in ("computed", "reused", "failed"):
            self.progress.advance(self._cells)
            self._finished(event)

    def _under_way(self, event: Event, running: _Running) -> None:
        left = running.pace(event.done, event.total, event.seconds)
        if event.seconds - running.told < _BETWEEN or event.done >= event.total:
            return
        running.told = event.seconds
        what = escape(f"{event.group}: {event.name}")
        line = f"[dim]..  {event.seconds:8.1f} s  {what}: {left}[/]"
        self.console.print(line, highlight=False, soft_wrap=True)

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
def live_view(console: Console, cells: int = 0) -> Iterator[None]:
    """Show progress while inside; without a terminal, in lines alone."""
    view = LiveView(console, cells)
    with (
        session().progress.listening(view),
        view.progress if console.is_terminal else contextlib.nullcontext(),
    ):
        yield
