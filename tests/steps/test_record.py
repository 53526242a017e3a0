"""Which rows of a sweep are logged, and which are logged again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.steps import record
from tasks.steps.record import Recorder


def test_rows_that_changed_when_they_were_computed_again_are_left_to_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[list[float]] = []

    def logged(parent: str, rows: Any, figures: Any) -> dict[str, str]:
        assert "prune_seconds" in {figure.column for figure in figures}
        asked.append([row["prune_seconds"] for row in rows])
        return {"same": "run 1"}

    monkeypatch.setattr(record, "row_of", lambda *_: {"prune_seconds": 3.0})
    nothing: Any = None
    tracker: Any = SimpleNamespace(logged=logged)
    recorder = Recorder(nothing, nothing, tracker=tracker)
    recorder.run_ids = {"same": "run 1", "slower": "run 2", "idle": "run 3"}
    computed: list[Any] = [SimpleNamespace(fingerprint=name) for name in ("same", "slower")]
    assert recorder.learn([], {}) == []
    assert recorder.learn(computed, {}) == computed[1:]
    assert asked == [[3.0, 3.0]]
    assert recorder.run_ids == {"same": "run 1", "idle": "run 3"}
