"""Windows as an axis of a sweep: which steps are shared, what is chosen, and what is told of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import ConfigurationError
from configs.schema import SweepConfig
from configs.yaml_file import validate
from flows.serve.access import restricted
from tasks.compression.coreset_file import budget_of
from tasks.compression.coresets import GRADIENTS, SELECT, ChosenWindows
from tasks.data.texts import load_places, load_tokens
from tasks.plan.plan import Cell, Plan
from tasks.plan.rows import cell_row
from tasks.plan.selections import notes_of, quality_of, sentences
from tasks.plan.sweep import plan_sweep
from tasks.provenance.differences import compare
from tasks.provenance.inputs import params_of, view
from tasks.selection.positions import evenly
from tasks.steps.session import Session, session
from tasks.store.steps import Step, walk

EVALUATION = {
    "name": "text",
    "corpus": {"source": "files", "files": ["0.txt"]},
    "windows": 2,
    "sequence_length": 16,
}
WORDS = ("the cat sat on a mat", "if x: return x + 1", "SELECT name FROM table WHERE id = 3")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number, words in enumerate(WORDS):
        lines = (f"{words} {i * (number + 3)}" for i in range(400))
        (tmp_path / f"{number}.txt").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    return tmp_path


def sweep(**changes: Any) -> dict[str, Any]:
    calibration = {
        "corpus": {"source": "files", "files": ["0.txt", "1.txt", "2.txt"]},
        "samples": 6,
        "sequence_length": 16,
        "coreset": {"pool": 24, "projection": 64, "rank": 2, "warmup_steps": 2},
    }
    return {
        "name": "axis",
        "models": ["tiny-random"],
        "dtype": "float32",
        "calibration": calibration | changes.pop("calibration", {}),
        "methods": ["magnitude", "wanda"],
        "targets": ["0.5"],
        "evaluation": {"perplexity": [EVALUATION]},
        **changes,
    }


def planned(**changes: Any) -> Plan:
    return plan_sweep(validate(sweep(**changes)), dtype="float32")


def cell(plan: Plan, method: str, selection: str = "", seed: int = 0) -> Cell:
    return plan.cell("tiny-random", method, "0.5", seed, selection)


def coreset_of(plan: Plan, selection: str = "") -> ChosenWindows:
    chosen = cell(plan, "wanda", selection).recipe.calibration
    assert isinstance(chosen, ChosenWindows)
    return chosen


def of_kind(goals: list[Step], name: str) -> list[Step]:
    return [step for step in walk(goals) if step.name == name]


def test_a_method_without_calibration_is_computed_once_for_all_selections(home: Path) -> None:
    plan = planned(selections=["contiguous", "random", "spread", "coreset"], seeds=[0, 1])
    assert len(plan.cells) == 16
    assert len({cell.fingerprint for cell in plan.cells}) == 16
    assert len({cell.pruned for cell in plan.cells if cell.name == "magnitude"}) == 1
    # Contiguous and spread windows have no seed; random ones and a coreset have one each.
    assert len({cell.pruned for cell in plan.cells if cell.name == "wanda"}) == 2 + 2 * 2


@pytest.mark.parametrize("sampling", ["random", "coreset"])
def test_each_seed_draws_other_windows(home: Path, sampling: str) -> None:
    plan = planned(calibration={"sampling": sampling}, seeds=[0, 1, 2])
    assert len({cell(plan, "wanda", seed=seed).pruned for seed in (0, 1, 2)}) == 3
    assert len({cell(plan, "magnitude", seed=seed).pruned for seed in (0, 1, 2)}) == 1
    # A sweep's seed is added to calibration's.
    other = planned(calibration={"sampling": sampling, "seed": 2})
    assert cell(other, "wanda").pruned == cell(plan, "wanda", seed=2).pruned


def test_contiguous_windows_are_shared_by_all_seeds(home: Path) -> None:
    plan = planned(seeds=[0, 1])
    assert cell(plan, "wanda", seed=1).pruned == cell(plan, "wanda").pruned


def test_a_sweep_without_the_axis_has_the_steps_and_rows_that_it_had(home: Path) -> None:
    plain, axis = planned(), planned(selections=["contiguous"])
    assert cell(plain, "wanda").pruned == cell(axis, "wanda", "contiguous").pruned
    assert "selection" not in cell(plain, "wanda").axes
    tokens = of_kind(cell(plain, "wanda").goals, "tokens")[0]
    assert set(tokens.inputs) == {"corpus", "boundaries", "length", "count", "seed", "skip"}


def test_one_gradients_artifact_serves_every_budget_and_method(home: Path) -> None:
    changes = [
        {},
        {"samples": 9},
        {"coreset": sweep()["calibration"]["coreset"] | {"method": "omp"}},
    ]
    plans = [planned(calibration=change | {"sampling": "coreset"}) for change in changes]
    goals = [cell(plan, "wanda").goals for plan in plans]
    assert len({of_kind(goal, GRADIENTS)[0] for goal in goals}) == 1
    assert len({of_kind(goal, SELECT)[0] for goal in goals}) == 3


def test_a_method_that_takes_fewer_windows_gets_its_own_spread_and_choice(home: Path) -> None:
    plan = planned(selections=["spread", "coreset"])
    for selection in ("spread", "coreset"):
        windows = cell(plan, "wanda", selection).recipe.calibration
        assert windows is not None
        assert windows.limited(2).count == 2
        assert windows.limited(2).step != windows.step
    contiguous = cell(planned(), "wanda").recipe.calibration
    assert contiguous is not None
    assert contiguous.limited(2).step == contiguous.step


@pytest.fixture
def ran(home: Path) -> tuple[Session, Plan]:
    here = session()
    plan = here.checked_plan(validate(sweep(selections=["contiguous", "spread", "coreset"])))
    context = here.context(plan.config)
    for entry in plan.cells:
        context.make(entry.pruned)
    return here, plan


def test_the_chosen_windows_are_those_of_the_pool_and_stand_for_it(
    ran: tuple[Session, Plan],
) -> None:
    here, plan = ran
    context = here.context(plan.config)
    mine = cell(plan, "wanda", "coreset")
    chosen = mine.recipe.calibration
    assert isinstance(chosen, ChosenWindows)
    select, pool = context.make(chosen.step), context.make(chosen.pool.step)
    told = json.loads((select.path / "selection.json").read_text())
    index = [pick["index"] for pick in told["picks"]]
    assert len(set(index)) == 6
    assert torch.equal(load_tokens(select), load_tokens(pool)[index])
    places = load_places(pool)
    assert [pick["offset"] for pick in told["picks"]] == [places["offset"][i] for i in index]
    assert sum(select.facts["sources"].values()) == 6
    assert set(pool.facts["sources"]) == {"0.txt", "1.txt", "2.txt"}
    quality = select.facts["quality"]
    assert 0 < quality["gradient_error"] < quality["gradient_error_random"]
    row = cell_row(mine, context)
    assert row["coreset/gradient_error"] == quality["gradient_error"]
    assert row["selection"] == "coreset"
    assert not any(
        column.startswith("coreset/")
        for column in cell_row(cell(plan, "magnitude", "coreset"), context)
    )
    notes = notes_of([entry.recipe for entry in plan.cells], context)
    assert any("6 of 24 windows with seed 0 holds" in note for note in notes)


def test_spread_windows_are_of_every_file_and_contiguous_ones_of_the_first(
    ran: tuple[Session, Plan],
) -> None:
    here, plan = ran
    context = here.context(plan.config)
    found = {}
    for selection in ("contiguous", "spread"):
        windows = cell(plan, "wanda", selection).recipe.calibration
        assert windows is not None
        found[selection] = context.make(windows.step)
    assert set(found["contiguous"].facts["sources"]) == {"0.txt"}
    assert set(found["spread"].facts["sources"]) == {"0.txt", "1.txt", "2.txt"}
    offsets = load_places(found["spread"])["offset"]
    assert offsets == sorted(offsets)
    assert len(offsets) == 6


def test_diff_names_the_sampling_and_what_follows_from_it(ran: tuple[Session, Plan]) -> None:
    here, plan = ran
    context = here.context(plan.config)
    a, b = (
        view(params_of(cell(plan, "wanda", selection), context), "sparsity")
        for selection in ("contiguous", "coreset")
    )
    assert b["calibration/method"] == "tagcos"
    assert "of 0.txt" in b["calibration/sources"]
    compared = compare(a, b)
    told = {entry.key: entry.kind for entry in compared.differences}
    assert told["calibration/sampling"] == "input"
    assert told["calibration/content"] == "consequence"
    assert not any(title.startswith("calibration") for title, _ in compared.unknown)


@pytest.mark.parametrize(
    ("error", "words"),
    [(0.19, []), (0.21, ["windows that are spread evenly"]), (0.3, ["random windows"])],
)
def test_a_coreset_that_is_no_better_than_what_costs_nothing_is_said_to_be(
    home: Path, error: float, words: list[str]
) -> None:
    chosen = coreset_of(planned(calibration={"sampling": "coreset"}))
    quality = {"gradient_error": error, "gradient_error_random": 0.25, "gradient_error_spread": 0.2}
    facts = {"windows": 6, "pool": 24, "sources": {"a": 4, "b": 2}, "quality": quality}
    told = [sentence for sentence in sentences(chosen, facts) if "no better than" in sentence]
    assert [word for word in words if any(word in sentence for sentence in told)] == words
    assert len(told) == len(words)


def test_a_pool_of_one_source_is_said_to_be(home: Path) -> None:
    chosen = coreset_of(planned(calibration={"sampling": "coreset"}))
    quality = dict.fromkeys(("gradient_error", "gradient_error_random", "gradient_error_spread"), 1)
    facts = {"windows": 6, "pool": 24, "sources": {"a": 6}, "quality": quality}
    assert "has one source alone" in list(sentences(chosen, facts))[-1]


def test_a_mixture_gives_windows_by_its_shares(home: Path) -> None:
    parts = [
        {"source": "files", "files": ["0.txt"], "share": 3},
        {"source": "files", "files": ["2.txt"]},
    ]
    here = session()
    for sampling in ("contiguous", "random", "spread"):
        change = {"corpus": parts, "samples": 8, "sampling": sampling}
        plan = here.checked_plan(validate(sweep(calibration=change)))
        windows = cell(plan, "wanda").recipe.calibration
        assert windows is not None
        found = here.context(plan.config).make(windows.step)
        assert found.facts["sources"] == {"0.txt": 6, "2.txt": 2}, sampling
        assert len(load_tokens(found)) == 8
    assert windows.facts.description == "75 % 0.txt + 25 % 2.txt"


def test_a_pool_larger_than_the_text_is_all_of_it(home: Path) -> None:
    (home / "short.txt").write_text("the cat sat on a mat " * 60)
    corpus = {"source": "files", "files": ["short.txt"]}
    here = session()
    change = {"corpus": corpus, "sampling": "coreset", "samples": 4}
    plan = here.checked_plan(validate(sweep(calibration=change | {"coreset": {"pool": 100_000}})))
    chosen = cell(plan, "wanda").recipe.calibration
    assert isinstance(chosen, ChosenWindows)
    pool = here.context(plan.config).make(chosen.pool.step)
    assert 4 < pool.facts["windows"] < 100_000
    assert load_places(pool)["offset"] == [
        16 * i for i in evenly(pool.facts["windows"], pool.facts["windows"]).tolist()
    ]


@pytest.mark.parametrize(
    ("calibration", "parts"),
    [
        ({"samples": 30}, ["calibration.coreset", "24 windows", "30 are to be chosen"]),
        (
            {"coreset": {"pool": 24, "clusters": 25}},
            ["calibration.coreset", "in 25 clusters", "at least 25"],
        ),
        ({"coreset": {"warmup_steps": 2, "checkpoints": 3}}, ["at most warmup_steps, 2"]),
        ({"coreset": {"method": "tagcoss"}}, ["calibration.coreset.method", "'tagcos'"]),
        ({"corpus": []}, ["calibration.corpus", "mixture needs parts"]),
        ({"corpus": [{"fils": ["0.txt"]}]}, ["corpus.parts[0].fils", "files", "share"]),
        ({"corpus": [{"source": "hub"}]}, ["corpus.parts[0]", "dataset and split"]),
        ({"corpus": {"source": "files", "files": ["0.txt"], "parts": [{}]}}, ["parts belongs to"]),
        ({"corpus": [{"source": "files", "files": ["0.txt"], "share": 0}]}, ["share"]),
    ],
)
def test_what_cannot_be_chosen_is_refused(
    home: Path, calibration: dict[str, Any], parts: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        validate(sweep(calibration=calibration | {"sampling": "coreset"}))
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize("short", [True, False])
def test_a_form_reads_the_files_of_a_mixture_below_the_data_folder_alone(
    home: Path, short: bool
) -> None:
    parts = [{"source": "files", "files": ["0.txt"]}, {"source": "files", "files": ["/etc/passwd"]}]
    corpus = parts if short else {"source": "mixture", "parts": parts}
    with pytest.raises(ConfigurationError) as refused:
        restricted({"calibration": {"corpus": corpus}}, data=home, allow_trust=False)
    assert "[1].files[0]" in refused.value.field


def test_a_text_that_has_fewer_windows_than_samples_is_refused(home: Path) -> None:
    (home / "short.txt").write_text("the cat sat on a mat " * 10)
    corpus = {"source": "files", "files": ["short.txt"]}
    config = validate(sweep(calibration={"corpus": corpus, "sampling": "coreset", "samples": 24}))
    with pytest.raises(ConfigurationError, match=r"calibration.*windows of 16 tokens"):
        session().checked_plan(config)


def test_a_stored_pool_is_as_short_as_it_was_when_it_was_cut(home: Path) -> None:
    """How many are chosen is no input of the pool: what another sweep has cut may be too few."""
    (home / "short.txt").write_text("the cat sat on a mat " * 10)
    corpus = {"source": "files", "files": ["short.txt"]}

    def asking(samples: int) -> SweepConfig:
        coreset = {"corpus": corpus, "sampling": "coreset", "samples": samples}
        return validate(sweep(calibration=coreset))

    with pytest.raises(ConfigurationError) as unknown:
        session().checked_plan(asking(24))
    plan = session().checked_plan(asking(4))
    context = session().context(plan.config)
    assert context.make(coreset_of(plan).pool.step).facts["windows"] == 13
    with pytest.raises(ConfigurationError) as known:
        Session(home / "home").checked_plan(asking(24))
    assert (known.value.field, str(known.value)) == ("calibration.samples", str(unknown.value))
    Session(home / "home").checked_plan(asking(13))


@pytest.mark.parametrize("stored", [False, True])
def test_who_asks_for_more_of_a_shared_pool_is_refused(home: Path, stored: bool) -> None:
    (home / "short.txt").write_text("the cat sat on a mat " * 10)
    corpus = {"source": "files", "files": ["short.txt"]}
    coreset = {"corpus": corpus, "sampling": "coreset", "sequence_length": 16}
    calibration = {**sweep()["calibration"], **coreset, "samples": 4}
    methods = {"methods": ["wanda", "policy_gradient"],
               "options": {"policy_gradient": {"sequence_length": 16}}}  # fmt: skip

    def asking(samples: int) -> SweepConfig:
        training = {**calibration, "samples": samples}
        return validate(sweep(calibration=calibration, training=training, **methods))

    here = session()
    plan = here.plan(asking(14))
    pools = [w for w in plan.windows(plan.models[0]) if not w.field.startswith("evaluation")]
    assert len({pool.step for pool in pools}) == 1
    assert sorted(pool.at_least or 0 for pool in pools) == [4, 14]
    if stored:
        here.context(plan.config).make(pools[0].step)
    with pytest.raises(ConfigurationError, match=r"training\.samples: 14 .* make 13 windows"):
        here.checked_plan(asking(14))


def test_a_coreset_is_written_as_a_file(home: Path) -> None:
    from rich.console import Console

    from flows.commands.select import select_windows

    to = home / "coreset.jsonl"
    with Console(file=(home / "said.txt").open("w"), width=200) as console:
        select_windows(validate(sweep(selections=["random"])), to, "25%", console)
        with pytest.raises(ConfigurationError, match=r"--to.*must be a new file"):
            select_windows(validate(sweep(selections=["random"])), home / "0.txt", "25%", console)
    lines = [json.loads(line) for line in to.read_text().splitlines()]
    assert len(lines) == 6
    assert all(len(line["tokens"]) == 16 for line in lines)
    assert {line["source"] for line in lines} <= {"0.txt", "1.txt", "2.txt"}
    texts = {name: (home / name).read_text() for name in ("0.txt", "1.txt", "2.txt")}
    whole = [line for line in lines if line["text"] in texts[line["source"]]]
    assert len(whole) >= 4  # the others reach over the end of their file
    said = " ".join((home / "said.txt").read_text().split())
    assert "6 of 24 windows" in said
    assert "gradient error" in said


@pytest.mark.parametrize("budget", ["0", "25", "101%", "many", "1.5", "nan%", "-3"])
def test_a_budget_that_the_pool_cannot_meet_is_refused(budget: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--budget.*from 1 to the 24"):
        budget_of(budget, 24)


@pytest.mark.parametrize(("budget", "count"), [("7", 7), ("5%", 1), ("50%", 12), ("100%", 24)])
def test_a_budget_is_windows_or_per_cent_of_the_pool(budget: str, count: int) -> None:
    assert budget_of(budget, 24) == count


@pytest.mark.parametrize("sampling", ["random", "spread", "coreset"])
def test_training_windows_are_chosen_as_calibrations_are(home: Path, sampling: str) -> None:
    coreset = sweep()["calibration"]["coreset"]
    training = {"sequence_length": 16, "samples": 5, "sampling": sampling, "coreset": coreset}
    settings = sweep(methods=["policy_gradient"], training=training, seeds=[0, 1])
    here = session()
    plan = here.checked_plan(
        validate(settings | {"options": {"policy_gradient": {"sequence_length": 16}}})
    )
    found = [cell(plan, "policy_gradient", seed=seed).recipe.training for seed in (0, 1)]
    assert found[0] is not None
    assert found[1] is not None
    assert (found[0].step == found[1].step) == (sampling == "spread")
    context = here.context(plan.config)
    windows = context.make(found[0].step)
    assert load_tokens(windows).shape == (5, 16)
    if sampling == "coreset":
        quality = quality_of(plan.cells[0].recipe, context)
        assert set(quality) >= {"training_coreset/gradient_error"}
        assert {name.partition("/")[0] for name in quality} == {"training_coreset"}


def test_choosing_training_windows_needs_their_number(home: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"training.*samples is needed"):
        validate(sweep(training={"sampling": "random"}))
    with pytest.raises(ConfigurationError, match=r"training.*at least 600"):
        validate(sweep(training={"sampling": "coreset", "samples": 600}))
