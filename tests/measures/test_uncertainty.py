"""U of questions from members' scores, and a sweep whose members prune, answer and are gone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from pydantic import ValidationError
from support.choosing import planned, write_folder

from configs.errors import ConfigurationError
from tasks.measures.registry import measures
from tasks.measures.uncertainty.across import FEW, _correlated, _words
from tasks.measures.uncertainty.judging import NoOptionsError, coverage, judge, summary
from tasks.measures.uncertainty.lidu import lidu
from tasks.measures.uncertainty.ranks import spearman
from tasks.measures.uncertainty.tokens import POSITIONS, TOP, Scored, judge_tokens, score
from tasks.measures.zero_shot.questions import Question
from tasks.plan.rows import across_of, rows_of
from tasks.store.context import Context
from tasks.store.store import Store

pytestmark = pytest.mark.usefixtures("offline")


def asked(scores: list[float], document: int = 0, **more: Any) -> Question:
    n = len(scores)
    settings: dict[str, Any] = {
        "document": document, "digest": "d", "loglikelihoods": tuple(scores),
        "characters": (2,) * n, "bytes": (2,) * n, "gold": (0,), "metrics": {"acc": 1.0},
        "context": "", "options": (),
    }  # fmt: skip
    return Question(**{**settings, **more})


def one(*members: list[float], dense: list[float], **more: Any) -> Any:
    answers = [[asked(scores, **more)] for scores in members]
    return judge(answers, [asked(dense, **more)], form="later", k=1)[0]


class TestJudging:
    def test_by_hand(self) -> None:
        members = [[-1.0, -2.0, -4.0], [-1.5, -1.0, -3.0], [-1.0, -3.0, -3.0]]
        found = one(*members, dense=[-2.0, -1.0, -5.0])
        assert found.answer == 0
        assert found.right is True
        assert found.agrees is False
        assert found.vote == pytest.approx(2 / 3)
        assert found.margin == pytest.approx(2 - 3.5 / 3)
        assert found.u == pytest.approx(float(lidu(torch.tensor(members), 1).values))
        assert set(found.others) == {"later_sum", "adjacent", "boundary", "std"}
        assert not found.tied

    def test_ties_are_told_and_go_to_the_first(self) -> None:
        found = one([-1.0, -2.0], [-2.0, -1.0], dense=[-1.0, -3.0])
        assert (found.answer, found.tied, found.agrees) == (0, True, True)
        assert found.u == pytest.approx(math.log(2))
        assert summary([found])["ties"] == 1

    def test_one_option_is_no_list(self) -> None:
        with pytest.raises(NoOptionsError, match="no options to choose from"):
            one([-1.0], [-2.0], dense=[-1.0])

    def test_other_questions_are_refused(self) -> None:
        with pytest.raises(ValueError, match="not the same"):
            judge([[asked([0.0, 1.0])]] * 2, [asked([0.0, 1.0], digest="e")], form="later", k=1)

    def test_what_is_right_may_be_unknown(self) -> None:
        found = one([-1.0, -2.0], [-1.0, -3.0], dense=[-1.0, -2.0], gold=())
        told = summary([found])
        assert found.right is None
        assert (told["accuracy"], told["auroc"]["u"], told["coverage"]["u"]) == (None, None, [])

    def test_scores_are_those_that_the_task_is_judged_by(self) -> None:
        """By character the longer option leads."""
        more = {"metrics": {"acc_norm": 1.0}, "characters": (2, 20)}
        found = one([-2.0, -4.0], [-2.0, -5.0], dense=[-2.0, -4.0], **more)
        assert found.answer == 1
        assert one([-2.0, -4.0], [-2.0, -5.0], dense=[-2.0, -4.0]).answer == 0

    def test_a_task_with_an_option_without_text_says_that_it_cannot_be_judged(self) -> None:
        more = {"metrics": {"acc_norm": 1.0}, "characters": (0, 3)}
        scores = [-2.0, -4.0]
        with pytest.raises(NoOptionsError, match=r"question 0 has an option .* under acc_norm"):
            one(scores, scores, dense=scores, **more)

    def test_risk_and_coverage(self) -> None:
        right = [True] * 6 + [False] * 4
        scores = [float(-n) for n in range(10)]
        curve = coverage(scores, right)
        assert curve[-1] == (1.0, pytest.approx(0.6))
        assert dict(curve)[0.5] == 1
        assert [part for part, _ in curve] == sorted({part for part, _ in curve})
        assert coverage([], []) == []


class TestAcross:
    def cells(self, count: int) -> list[dict[str, float]]:
        return [{"accuracy": n / 20, "u": -n, "entropy": n % 3, "margin": -n, "agreement": 0.5}
                for n in range(count)]  # fmt: skip

    def test_few_cells_tell_nothing(self) -> None:
        found = _correlated(self.cells(FEW - 1))
        assert all(facts["spearman"] is None for facts in found["estimates"].values())
        assert _words(7, "cells", found["estimates"]["u"]) == "7 cells, too few to tell"

    def test_many(self) -> None:
        found = _correlated(self.cells(12))
        told = found["estimates"]
        assert (told["u"]["spearman"], told["margin"]["kendall"]) == (1, -1)
        assert told["agreement"]["spearman"] is None
        assert _words(12, "cells", told["agreement"]) == "12 cells that do not differ"
        assert _words(12, "cells", told["u"]).startswith("Spearman +1.00 (95 % +1.00 to +1.00)")
        low, high = told["entropy"]["interval"]
        assert low < told["entropy"]["spearman"] < high


class TestTokens:
    def test_scores_are_the_model_s_logits(self) -> None:
        model, windows_NL = tiny.llama(), tiny.tokens(3, 40)
        found = score(model, windows_NL, None, 2)
        logits_NLV = model(windows_NL).logits
        places = torch.linspace(0, 38, POSITIONS).round().long()
        top = logits_NLV[:, places].topk(TOP)
        torch.testing.assert_close(found.logits_NPA, top.values)
        assert torch.equal(found.ids_NPA, top.indices)
        next_ = windows_NL[:, places + 1]
        wanted = -logits_NLV.log_softmax(-1)[:, places].gather(-1, next_[..., None])[..., 0]
        torch.testing.assert_close(found.losses_NP, wanted)
        for n, p in ((0, 0), (2, 31), (1, 7)):
            ids = found.ids_NPA[n, p].tolist()
            token = int(next_[n, p])
            assert int(found.hit_NP[n, p]) == (ids.index(token) if token in ids else -1)
        other = tiny.llama(tie_word_embeddings=False)
        again = score(other, windows_NL, found.ids_NPA, 3)
        assert torch.equal(again.ids_NPA, found.ids_NPA)
        assert torch.equal(again.hit_NP, found.hit_NP)

    def test_judged_by_hand(self) -> None:
        draw = torch.Generator().manual_seed(0)
        ids_NPA = torch.arange(4).expand(5, 3, 4)
        hit_NP = torch.randint(-1, 4, (5, 3), generator=draw)
        parts = [torch.randn(5, 3, 4, generator=draw) for _ in range(3)]
        losses = [torch.rand(5, 3, generator=draw) for _ in range(3)]
        members = [Scored(ids_NPA, p, loss, hit_NP) for p, loss in zip(parts, losses, strict=True)]
        judged, over_windows = judge_tokens(members, members[0], form="later", k=2)
        assert len(judged) == 15
        scores_TA = torch.stack(parts)[:, 2, 1]
        one = judged[2 * 3 + 1]
        assert one.u == pytest.approx(float(lidu(scores_TA, 2).values))
        assert one.answer == int(scores_TA.double().mean(0).argmax())
        assert one.right == (one.answer == int(hit_NP[2, 1]))
        assert one.agrees == (one.answer == 0)
        mean_U = [sum(j.u for j in judged[3 * n : 3 * n + 3]) / 3 for n in range(5)]
        mean_loss = torch.stack(losses).mean((0, 2))
        assert over_windows == spearman([-u for u in mean_U], -mean_loss)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uncertain")
    write_folder(path)
    return path


ASKED = {"samples": 3, "subset": 2}


class TestSweep:
    def test_nothing_more_is_planned_without_it(self, folder: Path) -> None:
        plain, more = planned(folder, None), planned(folder, ASKED)
        assert not plain.across
        assert {step.name for step in plain.steps()} >= {"zero_shot", "answers"}
        extra = set(more.steps()) - set(plain.steps())
        assert set(plain.steps()) < set(more.steps())
        names = [step.name for step in extra]
        assert (names.count("member"), names.count("uncertainty")) == (6, 2)
        # Wanda prunes by its own pass; what the other methods need is made once for all of them.
        assert names.count("tokens") == names.count("statistics") == 3

    def test_parts_do_not_overlap(self, folder: Path) -> None:
        texts = [step.about for step in planned(folder, ASKED).steps() if step.name == "tokens"]
        parts = [t for t in texts if t.name.startswith("calibration of member")]
        assert [(part.skip, part.count) for part in parts] == [(0, 2), (128, 2), (256, 2)]

    def test_members_are_a_cell_s_own(self, folder: Path) -> None:
        plan = planned(folder, ASKED)
        assert all(step.name != "member" for step in plan.shared(plan.cells))
        assert any(step.name == "statistics" for step in plan.shared(plan.cells))

    @pytest.mark.slow
    def test_from_calibration_to_the_row(self, folder: Path, tmp_path: Path) -> None:
        plan, context = planned(folder, ASKED, ("colours", "following")), Context(Store(tmp_path))
        for goal in plan.goals:
            context.make(goal)
        rows = {str(row["method"]): row for row in rows_of(plan, context, {})}
        assert "uncertainty/colours" not in rows["dense"]
        said = "magnitude looks at no calibration text, so it has no members"
        assert rows["magnitude"]["uncertainty/no members"] == said
        assert "uncertainty/colours" not in rows["magnitude"]
        for method in ("wanda", "swiftprune"):
            row = rows[method]
            assert row["status"] == "completed"
            assert 0 < row["uncertainty/colours"] < math.log(2)
            for kind in ("entropy", "margin", "agreement", "accuracy"):
                assert row[f"uncertainty/colours/{kind}"] >= 0
            assert not any(column.startswith("uncertainty/following") for column in row)
        across = across_of(plan, context)
        assert across["uncertainty_across/cells/u"] == "2 cells, too few to tell"
        # Neither a member's checkpoint nor its folder is left.
        left = [path for path in tmp_path.rglob("*") if "checkpoint" in path.name]
        assert [path.parent.name for path in left] == ["artifacts"]
        assert len(list(left[0].iterdir())) == 3
        for cell in plan.cells:
            found = {n: context.find(s) for n, s in cell.measured["uncertainty"].items()}
            if told := found.get("all"):
                assert told.facts["members"] == 3
                assert "no options" in told.facts["unusable"]["following"]
                lines = (told.path / "questions.jsonl").read_text().splitlines()
                assert len(lines) == 12

    def test_u_never_stands_alone(self) -> None:
        columns = [f"uncertainty/{task}{kind}" for task in ("a", "b", "all tasks")
                   for kind in ("", "/entropy", "/agreement", "/auroc")]  # fmt: skip
        figures = measures()["uncertainty"].figures(columns)
        assert [figure.column for figure in figures] == columns
        for figure in figures:
            if figure.heading.endswith("U"):
                assert not figure.better
                assert not figure.headline
                group = [other.heading for other in figures if other.group == figure.group]
                assert any(name.endswith("entropy") for name in group)
                assert any(name.endswith("agreement") for name in group)

    def test_what_cannot_be_asked_is_refused(self, folder: Path) -> None:
        with pytest.raises(ValidationError, match="greater than or equal to 2"):
            planned(folder, {"samples": 1})
        with pytest.raises(ConfigurationError, match=r"evaluation\.uncertainty\.items.*no task"):
            planned(folder, ASKED, ())

    @pytest.mark.slow
    def test_next_tokens_need_no_task(self, folder: Path, tmp_path: Path) -> None:
        plan = planned(folder, {**ASKED, "items": "tokens"}, ())
        context = Context(Store(tmp_path))
        for goal in plan.goals:
            context.make(goal)
        rows = {str(row["method"]): row for row in rows_of(plan, context, {})}
        wanda = rows["wanda"]
        assert 0 < wanda["uncertainty/docs"] < math.log(2)
        assert 0 < wanda["uncertainty/docs/agreement"] <= 1
        found = context.find(plan.cells[1].measured["uncertainty"]["all"])
        assert found is not None
        assert found.facts["tasks"]["docs"]["questions"] == 4 * POSITIONS
        assert [step.name for step in plan.steps()].count("candidates") == 1

    def test_tasks_without_options_alone(self, folder: Path, tmp_path: Path) -> None:
        plan, context = planned(folder, ASKED, ("following",)), Context(Store(tmp_path))
        (step,) = plan.cells[1].measured["uncertainty"].values()
        with pytest.raises(ConfigurationError, match=r"following: its questions have no options"):
            context.make(step)
