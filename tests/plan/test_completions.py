"""Sweeps that learn from completions alone: what they plan, compute and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from configs.errors import ConfigurationError
from configs.yaml_file import validate
from tasks.compression.coreset_file import write_coreset
from tasks.compression.coresets import ChosenWindows, window_losses
from tasks.data.texts import load_counted, load_tokens
from tasks.models.resident import dense_model
from tasks.plan.plan import Plan
from tasks.plan.sweep import plan_sweep
from tasks.provenance.differences import compare
from tasks.provenance.inputs import params_of, view
from tasks.pruning.ast.method import AdaptiveSparseTrainer
from tasks.steps.session import session

CHAT = {"source": "files", "files": ["chat.jsonl"], "loss": "completion"}
PROSE = {"source": "files", "files": ["prose.txt"]}
CORESET = {"pool": 12, "projection": 64, "rank": 2, "warmup_steps": 2}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = (
        {"prompt": f"Question {i}: what is {i} and {i}?\n", "completion": f"It is {2 * i}."}
        for i in range(200)
    )
    (tmp_path / "chat.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "prose.txt").write_text("\n".join(f"the cat sat on mat {i}" for i in range(400)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    return tmp_path


def sweep(**changes: Any) -> dict[str, Any]:
    training = {
        "corpus": CHAT,
        "samples": 6,
        "sequence_length": 16,
        "sampling": "coreset",
        "coreset": CORESET,
    }
    text = {"name": "text", "corpus": PROSE, "windows": 2, "sequence_length": 16}
    return {
        "name": "chat",
        "models": ["tiny-random"],
        "dtype": "float32",
        "calibration": {"corpus": PROSE, "samples": 4, "sequence_length": 16}
        | changes.pop("calibration", {}),
        "training": training | changes.pop("training", {}),
        "methods": ["ast"],
        "options": {"ast": {"steps": 3, "batch": 2}},
        "targets": ["2:4"],
        "evaluation": {"perplexity": [text]},
        **changes,
    }


def planned(**changes: Any) -> Plan:
    return plan_sweep(validate(sweep(**changes)), dtype="float32")


def test_ast_and_its_coreset_count_completions_alone(home: Path) -> None:
    here = session()
    plan = here.checked_plan(validate(sweep()))
    context = here.context(plan.config)
    chosen = plan.cells[0].recipe.training
    assert isinstance(chosen, ChosenWindows)
    pool, picked = context.make(chosen.pool.step), context.make(chosen.step)
    counted_NL, mine_NL = load_counted(pool), load_counted(picked)
    assert counted_NL is not None
    assert mine_NL is not None
    told = json.loads((picked.path / "selection.json").read_text())
    index = [pick["index"] for pick in told["picks"]]
    assert torch.equal(mine_NL, counted_NL[index])
    assert picked.facts["counted_tokens"] == int(mine_NL.sum())
    assert chosen.description == "chat.jsonl (JSON lines) (loss: completion)"
    pruned = context.make(plan.cells[0].pruned)
    assert 0 < pruned.facts["figures"]["counted_tokens"] < pruned.facts["training_tokens"]
    to = home / "coreset.jsonl"
    write_coreset(chosen, None, to, context)
    lines = [json.loads(line) for line in to.read_text().splitlines()]
    assert [line["counted"] for line in lines] == mine_NL.int().tolist()


@pytest.mark.parametrize("method", ["policy_gradient", "flip_gradient"])
def test_masks_are_learned_from_completions_alone(home: Path, method: str) -> None:
    here = session()
    options = {
        "policy_gradient": {"steps": 2, "masks": 2, "sequence_length": 16},
        "flip_gradient": {"tokens": 1_200, "sequence_length": 16, "swaps": 0},
    }
    learned = []
    for loss in ("all", "completion"):
        training = {"corpus": CHAT | {"loss": loss}, "sampling": "contiguous", "samples": 8}
        settings = sweep(methods=[method], targets=["0.5"], options=options, training=training)
        plan = here.checked_plan(validate(settings))
        pruned = here.context(plan.config).make(plan.cells[0].pruned)
        learned.append((pruned.path / "history.json").read_text())
    assert learned[0] != learned[1]


def test_losses_of_windows_are_means_over_what_counts(home: Path) -> None:
    here = session()
    plan = here.checked_plan(validate(sweep()))
    context = here.context(plan.config)
    chosen = plan.cells[0].recipe.training
    assert isinstance(chosen, ChosenWindows)
    pool = context.make(chosen.pool.step)
    windows_NL, counted_NL = load_tokens(pool), load_counted(pool)
    assert counted_NL is not None
    model = dense_model(context, context.make(chosen.pool.model).path, "float32")
    index = torch.tensor([3, 0, 7])
    with torch.no_grad():
        found_N = window_losses(model, windows_NL, counted_NL)(index)
        logits_NTV = model(input_ids=windows_NL[index].long()).logits[:, :-1]
    for loss, logits_TV, window_L, counted_L in zip(
        found_N, logits_NTV, windows_NL[index], counted_NL[index], strict=True
    ):
        kept = counted_L[1:]
        expected = functional.cross_entropy(logits_TV[kept], window_L[1:][kept].long())
        torch.testing.assert_close(loss, expected)


def test_the_loss_is_an_input_and_diff_names_it(home: Path) -> None:
    plans = [planned(), planned(training={"corpus": CHAT | {"loss": "all"}})]
    assert plans[0].cells[0].pruned != plans[1].cells[0].pruned
    context = session().context(plans[0].config)
    a, b = (view(params_of(plan.cells[0], context), "sparsity") for plan in plans)
    assert (a["training/loss"], b["training/loss"]) == ("completion", "all")
    told = {entry.key: entry.kind for entry in compare(a, b).differences}
    assert told["training/loss"] == "input"


def test_where_every_token_counts_windows_are_those_that_they_were(home: Path) -> None:
    training = planned(training={"corpus": PROSE, "sampling": "contiguous"}).cells[0].recipe
    assert training.training is not None
    assert "loss" not in training.training.step.inputs


def test_calibration_that_takes_no_loss_is_not_cut_by_it(home: Path) -> None:
    """Beside a coreset of the same text, contiguous windows are those of every token."""
    plan = planned(
        calibration={"corpus": CHAT, "coreset": CORESET},
        methods=["wanda"],
        selections=["contiguous", "coreset"],
    )
    contiguous, chosen = (cell.recipe.calibration for cell in plan.cells)
    assert contiguous is not None
    assert isinstance(chosen, ChosenWindows)
    assert "loss" not in contiguous.step.inputs
    assert chosen.step.inputs["loss"] == chosen.pool.step.inputs["loss"] == "completion"


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        (
            {"calibration": {"corpus": CHAT}, "methods": ["wanda"]},
            "calibration.corpus.loss",
            "here is neither",
        ),
        (
            {"evaluation": {"perplexity": [{"name": "text", "corpus": CHAT, "windows": 1}]}},
            "evaluation.perplexity[0].corpus.loss",
            "counts every token",
        ),
    ],
)
def test_a_loss_that_nothing_takes_is_refused(
    home: Path, changes: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as refused:
        planned(**changes)
    assert refused.value.field == field


@pytest.mark.parametrize("own", [True, False])
def test_a_method_that_learns_from_every_token_is_refused(
    home: Path, own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AdaptiveSparseTrainer, "counts_tokens", False)
    changes = {"training": {"corpus": CHAT if own else None}}
    if not own:
        changes["calibration"] = {"corpus": CHAT}
    with pytest.raises(ConfigurationError, match="ast learns from every token") as refused:
        planned(**changes)
    assert refused.value.field == f"{'training' if own else 'calibration'}.corpus.loss"
