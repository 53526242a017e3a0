"""What a log tells of long work."""

from __future__ import annotations

import io

from rich.console import Console

from flows.commands.live import LiveView
from tasks.runtime.progress import Event, Status


def told(*events: Event, terminal: bool = False) -> list[str]:
    file = io.StringIO()
    view = LiveView(Console(file=file, width=200, force_terminal=terminal), cells=1)
    for event in events:
        view(event)
    return [line.strip() for line in file.getvalue().splitlines()]


def event(status: Status, seconds: float, done: int = 0, total: int = 0) -> Event:
    return Event("m ast 2:4", "retrain", status, done, total, seconds)


def test_a_line_a_minute_with_what_is_left() -> None:
    steps = [event("advanced", 10.0 * step, step, 20) for step in range(1, 21)]
    lines = told(event("started", 0.0), *steps, event("computed", 201.0))
    assert lines == [
        "..      60.0 s  m ast 2:4: retrain: step 6 of 20, about 2 min left",
        "..     120.0 s  m ast 2:4: retrain: step 12 of 20, about 80 s left",
        "..     180.0 s  m ast 2:4: retrain: step 18 of 20, about 20 s left",
        "done   201.0 s  m ast 2:4: retrain",
    ]


def test_steps_of_an_earlier_process_took_no_time() -> None:
    lines = told(
        event("started", 0.0),
        event("advanced", 10.0, 901, 1000),
        event("advanced", 110.0, 911, 1000),
    )
    assert lines == ["..     110.0 s  m ast 2:4: retrain: step 911 of 1000, about 15 min left"]


def test_short_work_and_a_terminal_have_no_such_lines() -> None:
    short = [event("started", 0.0), event("advanced", 30.0, 1, 2), event("computed", 59.0)]
    assert told(*short) == ["done    59.0 s  m ast 2:4: retrain"]
    long = [event("started", 0.0), event("advanced", 90.0, 1, 2)]
    assert told(*long, terminal=True) == []
