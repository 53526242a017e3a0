"""Rows of results, from what the store holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tasks.models.sources.sources import ResolvedModel
from tasks.plan.plan import ModelPlan
from tasks.plan.rows import dense_row, environment_of, left_notes, sparser_notes
from tasks.store.context import Context
from tasks.store.steps import Step
from tasks.store.store import Artifact, Store

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


def test_what_a_method_told_of_its_run_stands_beside_every_row_that_shows_it() -> None:
    told = {"experts_without_tokens": 49.0, "hessians_damped_more": 2.0, "divergence": 0.1}
    told |= {"fewest_tokens_of_an_expert": 12.0, "median_tokens_of_an_expert": 700.0}
    facts = {"figures": told | {"least_of_a_block": 0.45, "most_of_a_block": 0.55}}
    cell: Any = SimpleNamespace(pruned="a", recipe=SimpleNamespace(label="m wanda 0.5 seed 1"))
    context: Any = SimpleNamespace(find=lambda _: SimpleNamespace(facts=facts))
    said = left_notes(cast("Any", SimpleNamespace(models=[], cells=[cell, cell])), context)
    assert len(said) == 4
    assert all(note.startswith("m wanda 0.5 seed 1: ") for note in said)
    parts = ("reached 49 experts", "saw 12 calibration tokens", "2 Hess", "from 0.45 to 0.55")
    for part in parts:
        assert sum(part in note for note in said) == 1
    facts = {"from_main_memory": True}
    (note,) = left_notes(cast("Any", SimpleNamespace(models=[], cells=[cell, cell])), context)
    assert note.startswith("m wanda 0.5 seed 1: the model leaves too little room on the GPU")
    facts = {"figures": dict.fromkeys(told, 0.0), "from_main_memory": False}
    assert not left_notes(cast("Any", SimpleNamespace(models=[], cells=[cell])), context)


def test_what_a_gguf_file_states_and_its_model_lacks_is_told() -> None:
    subject: Any = SimpleNamespace(weights="w")
    model = ModelPlan(ResolvedModel("m.gguf", "gguf", "m.gguf", "", "digest"), subject, {})
    plan: Any = SimpleNamespace(models=[model], cells=[])
    facts: dict[str, Any] = {"unread": ["a.bias", "llama.attention.scale"]}
    context: Any = SimpleNamespace(find=lambda _: SimpleNamespace(facts=facts))
    (note,) = left_notes(plan, context)
    assert "m.gguf: what its file states and the model lacks" in note
    assert "2: a.bias, llama.attention.scale" in note
    facts.clear()
    assert not left_notes(plan, context)


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


def test_what_computed_the_rows_is_told_from_their_steps(tmp_path: Path) -> None:
    """Not from the process that writes the report."""
    context = Context(Store(tmp_path))

    def made(name: str, environment: dict[str, str], **needs: Step) -> Step:
        step = Step(
            name=name,
            inputs={},
            needs=needs,
            produce=lambda work: {"environment": {"torch": "2.9"} | environment},
        )
        context.make(step)
        return step

    tokens = made("tokens", {"threads": "1"})
    here = [made(f"here{k}", {"threads": "1"}, tokens=tokens) for k in range(2)]
    there = made("there", {"threads": "2", "gpus": "H100"}, tokens=tokens)
    lost = Step(name="lost", inputs={}, needs={"tokens": tokens})
    planned: Any = [SimpleNamespace(goals=[step, lost]) for step in (*here, there)]
    told, (note,) = environment_of(planned, context)
    assert told == {
        "torch": "2.9",
        "threads": "1 (3 rows), 2 (1 row)",
        "gpus": "none (3 rows), H100 (1 row)",
    }
    assert "(threads, gpus: see What was used)" in note
    assert environment_of(planned[:2], context) == ({"torch": "2.9", "threads": "1"}, [])
    assert environment_of([], context) == ({}, [])
