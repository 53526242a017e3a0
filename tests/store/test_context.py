"""Steps made with what they need: once, verified, and with their own cost alone."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tasks.runtime.progress import Event, Progress
from tasks.store.context import Context, Loaded
from tasks.store.steps import Step, Work, walk
from tasks.store.store import Store


class Kitchen:
    """Three steps, of which the last needs the two before it; counts how often each is made."""

    def __init__(self, root: Path) -> None:
        self.made: list[str] = []
        self.events: list[Event] = []
        self.context = Context(Store(root), progress=Progress([self.events.append]))
        self.flour = self.step("flour")
        self.dough = self.step("dough", flour=self.flour)
        self.bread = self.step("bread", dough=self.dough, flour=self.flour)

    def step(self, name: str, **needs: Step) -> Step:
        def produce(work: Work) -> dict[str, object]:
            self.made.append(name)
            texts = [(work.need(role).path / "text").read_text() for role in work.step.needs]
            (work.out / "text").write_text("".join([*texts, name]))
            work.progress(1, 1)
            return {"parts": len(texts)}

        return Step(
            name=name, inputs={}, needs=needs, produce=produce, label=f"make {name}", group="k"
        )


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    return Kitchen(tmp_path)


def test_what_is_needed_is_made_first_and_once(kitchen: Kitchen) -> None:
    artifact = kitchen.context.make(kitchen.bread)
    assert kitchen.made == ["bread", "dough", "flour"]
    assert (artifact.path / "text").read_text() == "flourdoughflourbread"
    assert artifact.facts["parts"] == 2
    kitchen.context.make(kitchen.bread)
    assert len(kitchen.made) == 3


def test_nothing_behind_an_artifact_that_is_there_is_looked_at(kitchen: Kitchen) -> None:
    kitchen.context.make(kitchen.bread)
    kitchen.context.store.drop(kitchen.flour.place)
    assert kitchen.context.make(kitchen.bread).reused
    assert kitchen.context.find(kitchen.flour) is None


def test_a_damaged_need_is_made_again_before_it_is_used(kitchen: Kitchen) -> None:
    path = kitchen.context.make(kitchen.dough).path / "text"
    path.write_text(path.read_text().upper())
    kitchen.context.make(kitchen.bread)
    assert kitchen.made.count("dough") == 2
    assert "DOUGH" not in (kitchen.context.make(kitchen.bread).path / "text").read_text()


def test_progress_tells_each_step_that_is_made(kitchen: Kitchen) -> None:
    kitchen.context.make(kitchen.dough)
    told = [(event.name, event.status) for event in kitchen.events]
    assert told == [
        ("make dough", "started"),
        ("make flour", "started"),
        ("make flour", "advanced"),
        ("make flour", "computed"),
        ("make dough", "advanced"),
        ("make dough", "computed"),
    ]


def test_a_step_costs_what_it_took_itself(tmp_path: Path) -> None:
    clock = [0.0]

    def taking(seconds: float, *roles: str) -> object:
        def produce(work: Work) -> dict[str, object]:
            clock[0] += seconds
            for role in roles:
                work.need(role)
            return {}

        return produce

    slow = Step(name="slow", inputs={}, produce=taking(10.0))  # type: ignore[arg-type]
    quick = Step(name="quick", inputs={}, needs={"slow": slow}, produce=taking(1.0, "slow"))  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "perf_counter", lambda: clock[0])
        artifact = Context(Store(tmp_path)).make(quick)
    assert artifact.facts["step_seconds"] == 1.0


def test_a_step_that_lies_outside_is_found_where_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    step = Step(name="model", inputs={}, outside=lambda _: folder)
    context = Context(Store(tmp_path))
    assert context.find(step) is None
    folder.mkdir()
    assert context.make(step).path == folder


def test_what_lies_outside_is_checked_when_it_is_used_and_before_its_result_is_named(
    tmp_path: Path,
) -> None:
    now = "as planned"

    def unchanged(context: Context) -> None:
        if now != "as planned":
            raise ValueError(now)

    model = Step(name="model", inputs={}, outside=lambda _: tmp_path, unchanged=unchanged)

    def produce(work: Work) -> dict[str, object]:
        nonlocal now
        work.need("model")
        now = "changed while it was read"
        return {}

    figure = Step(name="figure", inputs={}, needs={"model": model}, produce=produce)
    context = Context(Store(tmp_path / "home"))
    with pytest.raises(ValueError, match="changed while it was read"):
        context.make(figure)
    assert context.find(figure) is None
    now = "changed before"
    with pytest.raises(ValueError, match="changed before"):
        context.make(figure)


def test_needs_come_before_what_needs_them(kitchen: Kitchen) -> None:
    assert [step.name for step in walk([kitchen.bread, kitchen.dough])] == [
        "flour",
        "dough",
        "bread",
    ]
    shallow = walk([kitchen.bread], into=lambda step: step != kitchen.dough)
    assert [step.name for step in shallow] == ["dough", "flour", "bread"]


def test_one_object_a_role_is_held() -> None:
    gone: list[str] = []
    loaded = Loaded()
    assert loaded.get("dense", "a", lambda: 1, lambda: gone.append("a")) == 1
    assert loaded.get("dense", "a", lambda: pytest.fail("loaded twice")) == 1
    assert loaded.get("dense", "b", lambda: 2, lambda: gone.append("b")) == 2
    assert gone == ["a"]
    loaded.release()
    assert gone == ["a", "b"]
    assert loaded.get("dense", "b", lambda: 3) == 3
