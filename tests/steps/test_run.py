"""What a run of a step asks of the store, and what it tells while it works."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.runtime.progress import Pace
from tasks.steps import run
from tasks.steps.run import is_complete, open_steps
from tasks.store.context import Context
from tasks.store.steps import Step
from tasks.store.store import Store


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ([(0, 10, 5.0)], "step 0 of 10"),
        ([(0, 10, 0.0), (2, 10, 10.0)], "step 2 of 10, about 40 s left"),
        ([(0, 100, 7.0), (10, 100, 67.0)], "step 10 of 100, about 9 min left"),
        ([(50, 60, 1.0), (52, 60, 5.0)], "step 52 of 60, about 16 s left"),
        ([(30, 30, 90.0), (0, 900, 90.0), (30, 900, 120.0)], "step 30 of 900, about 14 min left"),
        ([(99, 100, 9.0), (1, 100, 10.0), (11, 100, 20.0)], "step 11 of 100, about 89 s left"),
        ([(0, 60, 0.0), (60, 60, 4.0)], "60 steps"),
    ],
)  # fmt: skip
def test_what_is_left_at_the_pace_of_this_series(
    told: list[tuple[int, int, float]], text: str
) -> None:
    pace = Pace()
    assert [pace(*part) for part in told][-1] == text


def test_only_long_steps_make_an_artifact(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    updated: list[float] = []

    def create(_value: float, *, key: object, description: str) -> str:
        made.append(description)
        return "id"

    def update(_artifact: object, *, progress: float, description: str) -> None:
        updated.append(progress)

    clock = [0.0]
    monkeypatch.setattr(run, "create_progress_artifact", create)
    monkeypatch.setattr(run, "update_progress_artifact", update)
    monkeypatch.setattr(run.time, "monotonic", lambda: clock[0])
    with run._shown_in_prefect("x: prune") as watch:
        watch(1, 2)
        watch(2, 2)
    assert made == []
    with run._shown_in_prefect("x: retrain") as watch:
        for done in range(1, 11):
            clock[0] += 2.0
            watch(done, 10)
    assert made == ["x: retrain: step 3 of 10, about 14 s left"]
    assert updated == [30.0, 60.0, 90.0, 100.0]


def test_open_steps_are_the_goals_and_what_is_missing_behind_them(tmp_path: Path) -> None:
    def made(name: str, **needs: Step) -> Step:
        def produce(work: Any) -> dict[str, Any]:
            return {role: str(work.need(role).path) for role in work.step.needs}

        return Step(name=name, inputs={}, needs=needs, produce=produce)

    model = Step(name="model", inputs={}, outside=lambda _: tmp_path)
    tokens = made("tokens", model=model)
    pruned = made("pruned", model=model, tokens=tokens)
    figure = made("figure", pruned=pruned)
    context = Context(Store(tmp_path / "home"))

    def names() -> list[str]:
        return [step.name for step in open_steps([pruned, figure], context)]

    assert names() == ["tokens", "pruned", "figure"]
    context.make(tokens)
    assert names() == ["pruned", "figure"]
    context.make(figure)
    assert is_complete([pruned, figure], context)
    assert names() == ["pruned", "figure"]
    context.store.drop(pruned.place)
    context.store.drop(tokens.place)
    assert not is_complete([pruned, figure], context)
    assert names() == ["tokens", "pruned", "figure"]


def test_what_another_cell_made_meanwhile_is_not_made_again(tmp_path: Path) -> None:
    """Its checkpoint may be gone by then."""

    def made(name: str, **needs: Step) -> Step:
        return Step(name=name, inputs={}, needs=needs, produce=lambda work: {})

    own, checkpoint = made("own"), made("checkpoint")
    shared = made("shared", answers=made("answers", weights=checkpoint))
    context, told = Context(Store(tmp_path)), []
    for step in open_steps([own, shared], context):
        told.append(step.name)
        if step == own:
            context.make(shared.needs["answers"])
            context.make(checkpoint)
            context.store.drop(checkpoint.place)
    assert told == ["own", "shared"]


def test_a_failed_step_keeps_nothing_of_what_it_worked_on(tmp_path: Path) -> None:
    """Its run's state keeps the error, and so a model that the next cell's memory is told with."""

    class Model:
        pass

    alive: list[weakref.ref[Model]] = []

    def produce(_work: object) -> dict[str, Any]:
        model = Model()
        alive.append(weakref.ref(model))
        try:
            int("inside")
        except ValueError as error:
            raise RuntimeError("out of luck") from error

    context = Context(Store(tmp_path))
    step = Step(name="x", inputs={}, produce=produce, label="x", group="g")
    with pytest.raises(RuntimeError, match="out of luck") as told:
        run._run.fn(step, context)
    assert told.value.__cause__ is not None
    assert [model() for model in alive] == [None]


def test_a_name_with_braces_is_no_template(tmp_path: Path) -> None:
    named = "prepare · m{1} {x} {}"
    given: list[Any] = []

    class Called:
        def with_options(self, *, task_run_name: str) -> Callable[..., None]:
            given.append(task_run_name)
            return lambda *_, return_state: None

    run.call_task(Called(), name=named)  # type: ignore[arg-type]
    assert given[0].format(step=1) == named, "as Prefect makes it"
