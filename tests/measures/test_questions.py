"""The file of a task's questions, and what two models' answers say together."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tasks.measures import answers
from tasks.measures.compared import Changed, ComparedAnswers, joined
from tasks.measures.zero_shot.paired import (
    Paired,
    best,
    calibration_error,
    mcnemar,
    pair,
    pooled,
)
from tasks.measures.zero_shot.questions import (
    Question,
    judged_by,
    read_questions,
    write_questions,
)
from tasks.measures.zero_shot.results import TaskResult

COLUMNS = ["document", "digest", "loglikelihoods", "characters", "bytes", "gold", "metrics",
           "cut", "context", "options", "answer", "answer_norm"]  # fmt: skip


def question(document: int = 0, *, right: bool = True, answer: int = 0, **more: Any) -> Question:
    """A question with two options; ``answer`` is the likelier one."""
    scores = (-1.0, -2.0) if answer == 0 else (-2.0, -1.0)
    settings: dict[str, Any] = {
        "document": document, "digest": f"d{document}", "loglikelihoods": scores,
        "characters": (4, 4), "bytes": (4, 4), "gold": (0,), "metrics": {"acc": float(right)},
        "context": "Which?", "options": (" one", " two"),
    }  # fmt: skip
    return Question(**{**settings, **more})


class TestFile:
    def test_they_are_read_as_they_were_written(self, tmp_path: Path) -> None:
        odd = question(
            loglikelihoods=(-1.5, -math.inf), context="a\u2028b\n", options=("é", "\x85")
        )
        write_questions([question(0), odd], tmp_path)
        assert read_questions(tmp_path) == [question(0), odd]
        first, _ = (
            (tmp_path / "questions.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
        )
        assert list(json.loads(first)) == COLUMNS

    def test_results_hold_none_in_json(self) -> None:
        result = TaskResult({}, 1, 1, 0, "1", (question(),))
        assert "questions" not in result.as_json()


class TestPaired:
    def test_mcnemar_is_the_binomial_test(self) -> None:
        stats = pytest.importorskip("scipy.stats")
        for broken, mended in [(0, 0), (1, 0), (3, 9), (24, 24), (40, 61), (700, 650)]:
            n = broken + mended
            wanted = stats.binomtest(broken, n).pvalue if n else 1.0
            assert mcnemar(broken, mended) == pytest.approx(wanted, rel=1e-9)

    def test_counts_by_hand(self) -> None:
        a = [question(n, right=n < 6, answer=n < 6) for n in range(10)]
        b = [question(n, right=n > 3, answer=n > 3) for n in range(2, 12)]
        found = pair(a, b, "acc")
        assert (found.questions, found.right, found.broken, found.mended) == (8, 2, 2, 4)
        assert found.alike == 2
        assert found.accuracies == (0.5, 0.75)

    @pytest.mark.parametrize("scores", [(-1.0, -2.0), (-2.0, -9.0), (-math.inf, -2.0), (0.0, -2.0)])
    @pytest.mark.parametrize("metric", ["acc_norm", "acc_bytes"])
    def test_an_option_without_text_ranks_where_the_harness_ranks_it(
        self, scores: tuple[float, float], metric: str
    ) -> None:
        """numpy divides by zero, and its argmax takes NaN for the highest."""
        asked = question(
            loglikelihoods=scores, characters=(0, 3), bytes=(0, 3), options=("", "yes"),
            metrics={metric: 1.0},
        )  # fmt: skip
        with np.errstate(all="ignore"):
            harness = int(np.argmax(np.array(scores) / np.array([0.0, 3.0])))
        assert best(asked.scores(metric)) == harness
        assert asked.answer_norm == harness
        found = pair(
            [asked], [question(loglikelihoods=(-1.0, -1.0), metrics={metric: 0.0})], metric
        )
        assert (found.questions, found.alike) == (1, int(harness == 0))

    def test_other_questions_are_refused(self) -> None:
        with pytest.raises(ValueError, match="question 0 is not the same"):
            pair([question(0)], [question(0, digest="other")], "acc")
        with pytest.raises(ValueError, match="no question in common"):
            pair([question(0)], [question(1)], "acc")

    def test_the_error_of_the_difference_is_that_of_the_differences(self) -> None:
        found = Paired(questions=50, right=20, broken=9, mended=4, alike=37)
        differences = torch.tensor([-1.0] * 9 + [1.0] * 4 + [0.0] * 37, dtype=torch.float64)
        assert found.stderr == pytest.approx(float(differences.std() / math.sqrt(50)))

    def test_the_interval_is_the_bootstrap_s(self) -> None:
        found = Paired(questions=300, right=150, broken=60, mended=30, alike=210)
        differences = torch.tensor([-1.0] * 60 + [1.0] * 30 + [0.0] * 210, dtype=torch.float64)
        generator = torch.Generator().manual_seed(1)
        draws = torch.randint(0, 300, (4000, 300), generator=generator)
        wanted = differences[draws].mean(1).quantile(torch.tensor([0.025, 0.975]).double())
        assert found.interval() == pytest.approx(wanted.tolist(), abs=0.006)
        assert found.interval() == found.interval()
        low, high = found.interval()
        assert low < -0.1 < high < 0
        assert found.verdict == "A is better"

    def test_as_many_either_way_is_no_difference(self) -> None:
        found = Paired(questions=1000, right=719, broken=24, mended=24, alike=952)
        assert "24 questions changed sides either way" in found.sentence
        assert found.sentence.endswith("no difference")
        assert found.p == 1

    def test_equal_answers(self) -> None:
        a = [question(n, right=n > 1, answer=n > 1) for n in range(5)]
        found = pair(a, a, "acc")
        assert "every answer is the same" in found.sentence
        assert (found.p, found.interval(), found.stderr) == (1, (0, 0), 0)

    def test_one_question_has_no_error(self) -> None:
        assert pair([question(0)], [question(0)], "acc").stderr is None

    def test_pooled(self) -> None:
        part = Paired(questions=10, right=3, broken=2, mended=1, alike=6)
        assert pooled([part, part]) == Paired(questions=20, right=6, broken=4, mended=2, alike=12)

    def test_under_equal_models_p_is_rarely_small(self) -> None:
        """Exact: at most one in twenty below 0.05, whatever the number of changes."""
        draw = random.Random(0)
        for n in (6, 15, 40):
            small = 0
            for _ in range(2000):
                broken = sum(draw.random() < 0.5 for _ in range(n))
                small += mcnemar(broken, n - broken) < 0.05
            assert small / 2000 < 0.065


def test_calibration_error_by_hand() -> None:
    sure = math.log(0.8), math.log(0.2)
    asked = [question(n, right=n < 3, loglikelihoods=sure) for n in range(5)]
    assert calibration_error(asked, "acc") == pytest.approx(0.2)
    unsure = [question(n, right=n % 2 == 0, loglikelihoods=(0.0, 0.0)) for n in range(4)]
    assert calibration_error(unsure, "acc") == pytest.approx(0)
    assert calibration_error(asked + unsure, "acc") == pytest.approx(0.2 * 5 / 9)
    assert calibration_error([question(loglikelihoods=(-1.0,))], "acc") is None


def test_two_measures_with_a_task_of_the_same_name_are_both_told() -> None:
    mine, theirs, alone = (
        Paired(questions=10, right=3, broken=broken, mended=1, alike=5) for broken in (2, 1, 0)
    )
    lost = Changed(task="arc", document=3, context="Which?", right="one", a="one", b="two")
    found = joined({
        "zero_shot": ComparedAnswers(tasks={"arc": mine}, broken=[lost], unread=["a"]),
        "plugin": ComparedAnswers(tasks={"arc": theirs, "own": alone}, unread=["b"]),
    })  # fmt: skip
    assert found.tasks == {"zero_shot/arc": mine, "plugin/arc": theirs, "own": alone}
    assert found.unread == ["a", "b"]
    assert [changed.task for changed in found.broken] == ["zero_shot/arc"]


@pytest.mark.parametrize(("dense", "pruned"), [(0.0, 0.4), (1.0, 0.9), (0.4, 0.0)])
def test_scores_that_are_shares_change_no_sides(
    dense: float, pruned: float, tmp_path: Path
) -> None:
    """A few documents may all be 0 or 1 for one model; its F1 is no right or wrong for that."""
    sides = {}
    for role, f1 in (("reference/qa", dense), ("qa", pruned)):
        sides[role] = [question(n, metrics={"f1": f1}) for n in range(3)]
        (tmp_path / role).mkdir(parents=True)
        write_questions(sides[role], tmp_path / role)
    assert not judged_by("f1", *sides.values())
    with pytest.raises(ValueError, match="not every question is right or wrong by f1"):
        pair(*sides.values(), "f1")
    work: Any = SimpleNamespace(need=lambda role: SimpleNamespace(path=tmp_path / role))
    assert answers._produce(work, ["qa"]) == {"tasks": {}}
