"""What ``secateur diff`` says of two results' answers."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from comparing import Row
from rich.console import Console

from configs.errors import ConfigurationError
from tasks.measures.zero_shot.questions import Question, write_questions
from tasks.provenance.console import rendered
from tasks.provenance.result import Result
from tasks.provenance.verdict import Comparison, compare_results


def told(comparison: Comparison) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(rendered(comparison, console))
    return console.export_text()


def side(folder: Path, name: str, rights: str, task: str = "capitals", digest: str = "d") -> Result:
    """A result with a question a character: ``+`` right, ``-`` wrong."""
    place = folder / name / task
    place.mkdir(parents=True)
    asked = [
        Question(
            document=n, digest=digest, loglikelihoods=(-1.0, -2.0 + 2 * (c == "-")),
            characters=(5, 4), bytes=(5, 4), gold=(0,), metrics={"acc": float(c == "+")},
            context=f"The capital of land {n} is", options=(" Paris", " Rome"),
        )
        for n, c in enumerate(rights)
    ]  # fmt: skip
    write_questions(asked, place)
    made = Row().result()
    share = rights.count("+") / len(rights)
    metrics = {**made.metrics, f"zero_shot/{task}/acc": share, "zero_shot/mean": share}
    return replace(made, reference=name, metrics=metrics, artifacts={f"zero_shot/{task}": place})


def test_changes_are_counted_and_broken_questions_listed(tmp_path: Path) -> None:
    a, b = side(tmp_path, "a", "++++-+-+++"), side(tmp_path, "b", "+-++++-+-+")
    found = compare_results(a, b, "zero_shot/capitals/acc", questions=1)
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
    sides = []
    for name, first, second in (("a", "++", "+-"), ("b", "-+", "++")):
        one, two = side(tmp_path, name, first), side(tmp_path, name, second, task="rivers")
        both = {**one.artifacts, **two.artifacts}
        sides.append(replace(one, artifacts=both))
    found = compare_results(sides[0], sides[1], "zero_shot/mean").answers
    assert list(found.tasks) == ["capitals", "rivers", "all tasks"]
    assert found.tasks["all tasks"].questions == 4
    assert (found.tasks["all tasks"].broken, found.tasks["all tasks"].mended) == (1, 1)


def test_other_figures_read_no_questions(tmp_path: Path) -> None:
    a, b = side(tmp_path, "a", "+-"), side(tmp_path, "b", "++")
    found = compare_results(a, b, None)
    assert found.metrics[0].startswith("perplexity/")
    assert not found.answers.tasks
    assert compare_results(a, b, None, questions=3).answers.tasks


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    a, b = side(tmp_path, "a", "+-"), side(tmp_path, "b", "++", digest="other")
    found = compare_results(a, b, "zero_shot/mean")
    assert "Not compared: capitals: question 0 is not the same" in told(found)
    with pytest.raises(ConfigurationError, match="--questions"):
        compare_results(a, b, "zero_shot/mean", questions=2)
    gone = replace(b, artifacts={"zero_shot/capitals": tmp_path / "gone"})
    with pytest.raises(ConfigurationError, match="does not hold its questions"):
        compare_results(a, gone, "zero_shot/mean", questions=2)
