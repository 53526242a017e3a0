"""What ``secateur diff`` says of two results' answers."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from comparing import Row
from rich.console import Console

from configs.errors import ConfigurationError
from tasks.measures.zero_shot.measure import ASKED, PREFIX, Tasks, ZeroShot
from tasks.measures.zero_shot.questions import Question, write_questions
from tasks.measures.zero_shot.tasks import ResolvedTask
from tasks.provenance.console import rendered
from tasks.provenance.result import Result
from tasks.provenance.verdict import Comparison, compare_results
from tasks.store.steps import Step, walk
from tasks.store.store import Store


def told(comparison: Comparison) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(rendered(comparison, console))
    return console.export_text()


GROUP = "lands"
CAPITALS = "zero_shot/capitals/acc"


def side(
    folder: Path,
    name: str,
    asked: Mapping[str, str],
    *,
    group: Collection[str] = (),
    alone: Collection[str] = (),
    digest: str = "d",
    metrics: Collection[str] = ("acc", "acc_norm"),
) -> Result:
    """A result whose home holds the steps that a sweep would make.

    Args:
        asked: task → a character a question: ``+`` right, ``-`` wrong, each the other way round by
            acc_norm.
        group: tasks of the group ``lands``, which is named.
        alone: those of them that are named themselves, too.
        metrics: of each task, with their filters; questions keep them without.
    """
    tasks = tuple(
        ResolvedTask(
            task, {"task": task, "data": {}}, "", {}, {},
            groups={GROUP: [{"metric": "acc"}]} if task in group else {},
            alone=task in alone or task not in group,
        )
        for task in asked
    )  # fmt: skip
    subject: Any = SimpleNamespace(
        label=name, dtype="float32", weights=Step(name="model", inputs={"name": name}),
        evaluation=SimpleNamespace(zero_shot=Tasks(tasks=("any",))), resolved={"zero_shot": tasks},
    )  # fmt: skip
    store, steps = Store(folder / name), ZeroShot().steps(subject)

    def make(step: Step, out: Path) -> Mapping[str, Any]:
        if step.name == ASKED:
            rights = asked[step.inputs["task"]["task"]]
            write_questions(questions(rights, digest, metrics), out)
        return {"result": {"metrics": dict.fromkeys(metrics, 0)}}

    for step in walk(steps.values()):
        store.get_or_create(step, lambda out, step=step: make(step, out))
    made = Row().result()
    figures = {f"{PREFIX}{n}/{metric}": 0.5 for n in steps for metric in metrics}
    return replace(
        made,
        reference=name,
        metrics={**made.metrics, "zero_shot/mean": 0.5, **figures},
        artifacts={f"{PREFIX}{role}": store.path(step.place) for role, step in steps.items()},
    )


def questions(rights: str, digest: str, metrics: Collection[str]) -> list[Question]:
    return [
        Question(
            document=n, digest=digest, loglikelihoods=(-1.0, -2.0 + 2 * (c == "-")),
            characters=(5, 4), bytes=(5, 4), gold=(0,),
            metrics={
                metric.partition(",")[0]: float((c == "+") != (metric == "acc_norm"))
                for metric in metrics
            },
            context=f"The capital of land {n} is", options=(" Paris", " Rome"),
        )
        for n, c in enumerate(rights)
    ]  # fmt: skip


def test_changes_are_counted_and_broken_questions_listed(tmp_path: Path) -> None:
    a, b = (
        side(tmp_path, name, {"capitals": rights})
        for name, rights in (("a", "++++-+-+++"), ("b", "+-++++-+-+"))
    )
    found = compare_results(a, b, CAPITALS, questions=1)
    text = " ".join(told(found).split())
    assert "0.800 against 0.700 on 10 questions: 2 questions only A has right, 1 only B" in text
    assert "no difference." in text
    assert "capitals, document 1" in text
    assert "document 8" not in text
    assert "right: Paris" in text
    assert "B: Rome" in text
    machine = json.loads(json.dumps(found.as_json()))["answers"]
    assert machine["tasks"]["capitals"]["broken"] == 2
    assert machine["tasks"]["capitals"]["p"] == 1
    assert [entry["document"] for entry in machine["broken"]] == [1]


def test_several_tasks_are_pooled(tmp_path: Path) -> None:
    a = side(tmp_path, "a", {"capitals": "++", "rivers": "+-"})
    b = side(tmp_path, "b", {"capitals": "-+", "rivers": "++"})
    found = compare_results(a, b, "zero_shot/mean").answers
    assert list(found.tasks) == ["capitals", "rivers", "all tasks"]
    assert found.tasks["all tasks"].questions == 4
    assert (found.tasks["all tasks"].broken, found.tasks["all tasks"].mended) == (1, 1)


def test_other_figures_read_no_questions(tmp_path: Path) -> None:
    a, b = side(tmp_path, "a", {"capitals": "+-"}), side(tmp_path, "b", {"capitals": "++"})
    found = compare_results(a, b, None)
    assert found.metrics[0].startswith("perplexity/")
    assert not found.answers.tasks
    assert compare_results(a, b, None, questions=3).answers.tasks


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    a = side(tmp_path, "a", {"capitals": "+-"})
    b = side(tmp_path, "b", {"capitals": "++"}, digest="other")
    found = compare_results(a, b, "zero_shot/mean")
    assert "Not compared: capitals: question 0 is not the same" in told(found)
    with pytest.raises(ConfigurationError, match="--questions"):
        compare_results(a, b, "zero_shot/mean", questions=2)
    (b.artifacts["zero_shot/capitals"] / "questions.jsonl").unlink()
    with pytest.raises(ConfigurationError, match="capitals: the store of b does not hold its"):
        compare_results(a, b, "zero_shot/mean", questions=2)
    shutil.rmtree(tmp_path / "b")
    for metric in ("zero_shot/mean", CAPITALS):
        with pytest.raises(ConfigurationError, match="the store of b does not hold its questions"):
            compare_results(a, b, metric, questions=2)


@pytest.mark.parametrize("alone", [(), ("rivers",), ("capitals", "rivers")])
def test_a_group_s_tasks_are_those_it_was_made_of(tmp_path: Path, alone: tuple[str, ...]) -> None:
    """Whether or not some or all of them are named beside it."""
    rights = {"capitals": "+++", "rivers": "+-", "beside": "+"}
    others = {"capitals": "+-+", "rivers": "++", "beside": "-"}
    shape: dict[str, Any] = {"group": ("capitals", "rivers"), "alone": alone}
    a, b = side(tmp_path, "a", rights, **shape), side(tmp_path, "b", others, **shape)
    found = compare_results(a, b, "zero_shot/lands/acc").answers
    assert list(found.tasks) == ["capitals", "rivers", "all tasks"]
    whole = found.tasks["all tasks"]
    assert (whole.questions, whole.broken, whole.mended) == (5, 1, 1)
    assert not found.unread


def test_a_group_is_compared_by_the_figure_that_is_asked_for(tmp_path: Path) -> None:
    group = ("capitals", "rivers")
    a = side(tmp_path, "a", {"capitals": "+++", "rivers": "++"}, group=group)
    b = side(tmp_path, "b", {"capitals": "+--", "rivers": "++"}, group=group)
    found = {
        metric: compare_results(a, b, f"zero_shot/lands/{metric}").answers.tasks["capitals"]
        for metric in ("acc", "acc_norm")
    }
    assert (found["acc"].broken, found["acc"].mended) == (2, 0)
    assert (found["acc_norm"].broken, found["acc_norm"].mended) == (0, 2)


def test_tasks_of_a_group_and_the_same_named_singly_are_the_same(tmp_path: Path) -> None:
    """A name with a slash is a name: its last part may be another task's, too."""
    group = ("europe/capitals", "asia/capitals")
    asked = {"europe/capitals": "++", "asia/capitals": "+-"}
    a = side(tmp_path, "a", asked)
    b = side(tmp_path, "b", {"europe/capitals": "-+", "asia/capitals": "++"}, group=group)
    found = compare_results(a, b, "zero_shot/mean").answers
    assert list(found.tasks) == [*group, "all tasks"]
    assert [(p.broken, p.mended) for p in found.tasks.values()] == [(1, 0), (0, 1), (1, 1)]
    assert not found.unread


def test_tasks_that_one_side_alone_was_asked_are_named(tmp_path: Path) -> None:
    a = side(tmp_path, "a", {"capitals": "++", "rivers": "++", "lakes": "+"})
    b = side(tmp_path, "b", {"capitals": "+-", "hills": "+"})
    found = compare_results(a, b, "zero_shot/mean").answers
    assert list(found.tasks) == ["capitals"]
    assert found.unread == ["hills: a was not asked", "rivers, lakes: b was not asked"]


def test_what_no_question_is_judged_by_is_said(tmp_path: Path) -> None:
    """Of several filters, questions keep what was found through the first."""
    through = ("exact_match,first", "exact_match,second")
    a = side(tmp_path, "a", {"capitals": "++"}, metrics=through)
    b = side(tmp_path, "b", {"capitals": "+-"}, metrics=through)
    first = compare_results(a, b, "zero_shot/capitals/exact_match,first").answers
    assert first.tasks["capitals"].broken == 1
    second = compare_results(a, b, "zero_shot/capitals/exact_match,second").answers
    assert not second.tasks
    assert second.unread == [
        "capitals: no question is kept as right or wrong by exact_match,second"
    ]
