"""Where members come from: other calibration text, drawn masks, the sweep's own seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from support.choosing import planned, write_folder

from configs.errors import ConfigurationError
from configs.trust import Trust
from tasks.compression.checkpoint import DISTRIBUTION
from tasks.compression.members import EnsembleOf, _seed
from tasks.data.texts import load_tokens
from tasks.measures.uncertainty.judging import judge
from tasks.measures.uncertainty.members import MEMBER
from tasks.measures.uncertainty.settings import Asked
from tasks.measures.uncertainty.tokens import Scored, score
from tasks.measures.zero_shot.evaluate import zero_shot
from tasks.measures.zero_shot.questions import read_questions
from tasks.models.architecture.decoder import describe
from tasks.models.load import load_model, load_tokenizer
from tasks.models.resident import dense_model
from tasks.models.saved.pruned import load_pruned
from tasks.plan.plan import Cell, Plan
from tasks.plan.rows import rows_of
from tasks.pruning.core.structure import Kept, masked_weights
from tasks.pruning.policy_gradient.policy import Policy
from tasks.store.context import Context
from tasks.store.steps import Step, Work
from tasks.store.store import Store

pytestmark = pytest.mark.usefixtures("offline")

LEARNING = {"policy_gradient": {"steps": 3, "masks": 2, "sequence_length": 16, "batch_size": 2,
                                "channel_group": 4, "validation_windows": 2},
            "flip_gradient": {"tokens": 1_200, "sequence_length": 16, "swaps": 0}}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ensembles")
    write_folder(path)
    return path


def made(plan: Plan, root: Path) -> Context:
    context = Context(Store(root))
    for goal in plan.goals:
        context.make(goal)
    return context


def members_of(cell: Cell) -> list[Step]:
    (step,) = cell.measured["uncertainty"].values()
    return [need for role, need in step.needs.items() if role.startswith(f"{MEMBER}/")]


def dense_of(folder: Path) -> Any:
    return load_model(folder / "model", torch.float32, torch.device("cpu"), Trust())


def drawn_by_hand(cell: Cell, context: Context, place: int) -> tuple[Kept, ...]:
    tensors = load_file(context.make(cell.pruned).path / DISTRIBUTION)
    policy = Policy.of_tensors(tensors, 0.5, 1e-3)
    generator = torch.Generator().manual_seed(_seed(cell.seed, place))
    return policy.sample(generator, across_layers=True)


class TestCalibration:
    @pytest.mark.parametrize("method", ["wanda", "swiftprune", "wanda_sp", "policy_gradient"])
    def test_a_member_is_what_its_checkpoint_would_be(
        self, folder: Path, tmp_path: Path, method: str
    ) -> None:
        """Made in memory, bit for bit what a written and loaded checkpoint computes."""
        options = {method: LEARNING[method]} if method in LEARNING else {}
        plan = planned(folder, None, (), methods=[method], options=options)
        cell, context = plan.cells[0], Context(Store(tmp_path))
        assert isinstance(cell.subject.members, EnsembleOf)
        member = cell.subject.members(Asked(samples=2, subset=2))[0]
        assert not isinstance(member, str)
        part = cell.subject.members._part(0, 2)
        step = Step(name="member", inputs=member.inputs, needs=member.needs)
        out = tmp_path / "member"
        out.mkdir()
        work = Work(context, step, out, lambda done, total: None)
        ids_NL = load_tokens(context.make(part.step)).long()
        with member.model(work) as (model, zeros):
            logits_NLV = model(ids_NL).logits
        assert list(out.iterdir()) == []
        checkpoint, pruned = replace(cell.recipe, calibration=part).steps()
        written = load_pruned(context.make(checkpoint).path, torch.float32)
        assert torch.equal(logits_NLV, written(ids_NL).logits)
        assert zeros == context.make(pruned).facts["sparsity"]
        dense = dense_model(context, context.make(cell.recipe.model).path, "float32")
        assert torch.equal(dense(ids_NL).logits, dense_of(folder)(ids_NL).logits)


class TestMasks:
    def test_weights_that_were_fitted_to_one_mask_have_no_other_drawn(self, folder: Path) -> None:
        learning = LEARNING["policy_gradient"]
        options = {"policy_gradient": {**learning, "compensation": "least_squares"}}
        fit, plain = (
            planned(folder, None, methods=["policy_gradient"], options=given).cells[0]
            for given in (options, LEARNING)
        )
        members, others = fit.subject.members, plain.subject.members
        assert isinstance(members, EnsembleOf) and isinstance(others, EnsembleOf)
        assert "fits weights to one mask" in str(members(Asked(source="masks")))
        assert len(others(Asked(source="masks", samples=2))) == 2
        # What fits them has a version that no method has.
        assert fit.checkpoint.inputs["compensation_version"] == 1
        assert "compensation_version" not in plain.checkpoint.inputs

    @pytest.mark.slow
    def test_members_have_the_drawn_masks(self, folder: Path, tmp_path: Path) -> None:
        """One learning; each member's answers are those of the model under its own draw."""
        methods = ["magnitude", "flip_gradient", "policy_gradient"]
        asked = {"source": "masks", "samples": 3}
        plan = planned(folder, asked, methods=methods, options=LEARNING)
        plain = planned(folder, None, methods=methods, options=LEARNING)
        more = [step.name for step in set(plan.steps()) - set(plain.steps())]
        assert (
            sorted(more)
            == ["member"] * 3 + ["uncertainty", "uncertainty_across"] + ["uncertainty_unknown"] * 2
        )
        context = made(plan, tmp_path)
        rows = {row["method"]: row for row in rows_of(plan, context, {})}
        for method in ("magnitude", "flip_gradient"):
            said = f"{method} keeps no probabilities that masks could be drawn from"
            assert rows[method]["uncertainty/no members"] == said
        assert rows["policy_gradient"]["uncertainty/colours"] > 0
        cell = plan.cells[2]
        told = context.make(next(iter(cell.measured["uncertainty"].values()))).facts
        assert told["members"] == 3
        tokenizer = load_tokenizer(folder / "model", Trust())
        tasks = cell.subject.resolved["zero_shot"]
        seen = []
        for place, step in enumerate(members_of(cell)):
            kept = drawn_by_hand(cell, context, place)
            dense = dense_of(folder)
            dense.load_state_dict(dict(masked_weights(describe(dense), kept)), strict=False)
            found = zero_shot(dense, tokenizer, tasks, batch_size=4)["colours"].questions
            member = read_questions(context.make(step).path / "0")
            for wanted, answer in zip(found, member, strict=True):
                assert answer.loglikelihoods == pytest.approx(wanted.loglikelihoods, abs=1e-4)
            seen.append([q.loglikelihoods for q in member])
            assert sum(int(k.groups_G.sum()) for k in kept) == sum(
                int(k.groups_G.sum()) for k in kept_of(cell, context)
            )
            assert sum(int(k.channels_C.sum()) for k in kept) == sum(
                int(k.channels_C.sum()) for k in kept_of(cell, context)
            )
        assert seen[0] != seen[1] != seen[2]
        zeros = context.make(cell.pruned).facts["sparsity"]
        assert told["sparsities"] == pytest.approx([zeros] * 3)

    def test_draws_are_the_seed_s(self, folder: Path) -> None:
        asked = {"source": "masks", "samples": 3}
        plans = [planned(folder, asked, methods=["policy_gradient"], options=LEARNING, seeds=[0, 1])
                 for _ in range(2)]  # fmt: skip
        prints = [[s.fingerprint for c in plan.cells for s in members_of(c)] for plan in plans]
        assert prints[0] == prints[1]
        assert len(set(prints[0])) == 6
        fewer = planned(folder, {**asked, "samples": 2}, methods=["policy_gradient"],
                        options=LEARNING, seeds=[0, 1])  # fmt: skip
        assert members_of(fewer.cells[1]) == members_of(plans[0].cells[1])[:2]

    def test_checkpoints_may_go(self, folder: Path, tmp_path: Path) -> None:
        """What masks are drawn from outlives the checkpoint, as its facts do."""
        plan = planned(folder, {"source": "masks", "samples": 2}, methods=["policy_gradient"],
                       options=LEARNING)  # fmt: skip
        cell, context = plan.cells[0], Context(Store(tmp_path))
        context.make(cell.pruned)
        context.store.drop(cell.checkpoint.place)
        context.make(members_of(cell)[0])
        assert context.find(cell.checkpoint) is None


def kept_of(cell: Cell, context: Context) -> tuple[Kept, ...]:
    """The likeliest choice of what was learned, which is the cell's own."""
    tensors = load_file(context.make(cell.pruned).path / DISTRIBUTION)
    return Policy.of_tensors(tensors, 0.5, 1e-3).kept(across_layers=True)


SEEDS: dict[str, Any] = {
    "methods": ["magnitude", "wanda"], "seeds": [0, 1, 2], "calibration": {"sampling": "random"},
}  # fmt: skip


class TestSeeds:
    @pytest.mark.slow
    def test_nothing_is_pruned_or_asked_again(self, folder: Path, tmp_path: Path) -> None:
        plan = planned(folder, {"source": "seeds"}, **SEEDS)
        plain = planned(folder, None, **SEEDS)
        more = set(plan.steps()) - set(plain.steps())
        names = sorted(step.name for step in more)
        assert names == ["uncertainty", "uncertainty_across", "uncertainty_unknown"]
        wanda = [cell for cell in plan.cells if cell.name == "wanda"]
        shared = {step for cell in wanda for step in cell.measured["uncertainty"].values()}
        assert len(shared) == 1
        own = [cell.measured["zero_shot"]["colours"].fingerprint for cell in wanda]
        assert [step.fingerprint for step in members_of(wanda[0])] == own
        context = made(plan, tmp_path)
        answers = [read_questions(context.make(step).path) for step in members_of(wanda[0])]
        dense = read_questions(context.make(plan.models[0].measured["zero_shot"]["colours"]).path)
        judged = judge(answers, dense, form="later", k=1)
        mean = sum(entry.u for entry in judged) / len(judged)
        rows = [row for row in rows_of(plan, context, {}) if row["method"] == "wanda"]
        assert [row["uncertainty/colours"] for row in rows] == pytest.approx([mean] * 3)
        none = [row for row in rows_of(plan, context, {}) if row["method"] == "magnitude"]
        assert all("its seeds share one checkpoint" in r["uncertainty/no members"] for r in none)

    @pytest.mark.slow
    def test_next_tokens(self, folder: Path, tmp_path: Path) -> None:
        """Scored on the seeds' own checkpoints, one pass each."""
        asked = {"source": "seeds", "items": "tokens", "samples": 2}
        plan = planned(folder, asked, (), **SEEDS | {"methods": ["wanda"]})
        assert sum(step.name == "member" for step in plan.steps()) == 2
        assert sum(step.name == "checkpoint" for step in plan.steps()) == 3
        context = made(plan, tmp_path)
        cells = plan.cells
        for cell, step in zip(cells[:2], members_of(cells[2]), strict=True):
            member = context.make(step)
            found = Scored.load(member.path / "0.safetensors")
            tokens_NL = load_tokens(context.make(step.needs["tokens/docs"]))
            model = load_pruned(context.make(cell.checkpoint).path, torch.float32)
            again = score(model, tokens_NL, found.ids_NPA, 4)
            torch.testing.assert_close(found.logits_NPA, again.logits_NPA)

    def test_one_text_for_all_seeds_is_no_ensemble(self, folder: Path) -> None:
        plan = planned(folder, {"source": "seeds"}, methods=["wanda"], seeds=[0, 1])
        (step,) = {s for cell in plan.cells for s in cell.measured["uncertainty"].values()}
        assert "calibration.sampling random" in step.inputs["reason"]


class TestRefusals:
    def test_one_seed(self, folder: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"uncertainty\.source.*'seeds'.*has 1 seed"):
            planned(folder, {"source": "seeds"}, methods=["wanda"])

    def test_more_samples_than_seeds(self, folder: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"uncertainty\.samples.*3.*the sweep's 2"):
            planned(folder, {"source": "seeds", "samples": 3}, methods=["wanda"], seeds=[0, 1],
                    calibration=SEEDS["calibration"])  # fmt: skip

    @pytest.mark.parametrize("source", ["masks", "seeds"])
    def test_parts_of_a_text_that_no_member_is_pruned_on(self, folder: Path, source: str) -> None:
        with pytest.raises(ValidationError, match=f"subset 4 needs source: calibration.*{source}"):
            planned(folder, {"source": source, "subset": 4})

    def test_an_unknown_source(self, folder: Path) -> None:
        with pytest.raises(ValidationError, match="'calibration', 'masks' or 'seeds'"):
            planned(folder, {"source": "dropout"})
