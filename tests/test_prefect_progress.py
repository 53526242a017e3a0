"""Remaining time, in words."""

from __future__ import annotations

import pytest

from tasks.steps.prefect_progress import remaining, shown_in_prefect


@pytest.mark.parametrize(
    ("done", "total", "seconds", "before", "text"),
    [
        (0, 10, 5.0, 0, "step 0 of 10"),
        (2, 10, 10.0, 0, "step 2 of 10, about 40 s left"),
        (10, 100, 60.0, 0, "step 10 of 100, about 9 min left"),
        (52, 60, 4.0, 50, "step 52 of 60, about 16 s left"),
        (60, 60, 4.0, 0, "60 steps"),
    ],
)
def test_remaining(done: int, total: int, seconds: float, before: int, text: str) -> None:
    assert remaining(done, total, seconds, before=before) == text


def test_steps_that_are_short_make_no_artifact() -> None:
    told: list[tuple[int, int]] = []
    with shown_in_prefect("x", lambda *at: told.append(at), shown=False) as progress:
        progress(1, 2)
    assert told == [(1, 2)]
