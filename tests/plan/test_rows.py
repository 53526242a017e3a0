"""Rows of results, from what the store holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.plan.rows import dense_row, sparser_notes
from tasks.store.steps import Step
from tasks.store.store import Artifact

STEP = Step(name="size", inputs={})


def row(target: str, zeros: float | None, model: str = "mine") -> dict[str, Any]:
    method = "wanda" if target else "dense"
    return {"model": model, "method": method, "target": target, "sparsity": zeros}


@pytest.mark.parametrize("zeros", [0.5, None])
def test_a_dense_model_s_zeros_are_those_that_were_counted(zeros: float | None) -> None:
    facts = {"parameters": 9, "nonzero_parameters": 5, "bytes_on_disk": 36, "sparsity": zeros}
    model: Any = SimpleNamespace(spec="mine", measured={"size": {"size": STEP}}, fingerprint="f")
    context: Any = SimpleNamespace(find=lambda step: Artifact(Path(), facts, reused=True))
    assert dense_row(model, context)["sparsity"] == zeros
    nothing = cast(Any, SimpleNamespace(find=lambda step: None))
    assert dense_row(model, nothing)["sparsity"] is None


def test_targets_that_ask_for_less_than_a_model_has_are_told() -> None:
    rows = [
        row("", 0.5),
        *(row(target, 0.5) for target in ("0.2", "3:4", "2:4", "0.6", "0.2")),
        row("", None, "other"),
        row("0.2", 0.2, "other"),
    ]
    (note,) = sparser_notes(rows)
    assert note.startswith("mine: 50.0% of the weights")
    assert "; 0.2, 3:4 ask for less" in note
    assert "; 0.2 asks for less" in sparser_notes(rows[:2])[0]
