"""What a model's headers or configuration tell decides what is skipped, whatever its kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from models.test_model_prepare import tiny_gguf
from support.contract import METHODS, made

from configs.schema import SweepConfig
from configs.yaml_file import validate
from tasks.models.prepare import whole_config
from tasks.models.sources.sources import Contents, ResolvedModel
from tasks.plan import check
from tasks.plan.possible import asks_contents, impossible
from tasks.pruning.core.targets import parse_target
from tasks.steps.session import Session

FITS_NOTHING = Contents(widths=(7,), unstructured="it has no heads")


@pytest.mark.parametrize("target", ["0.5", "2:4", "3:5"])
@pytest.mark.parametrize("name", METHODS)
def test_a_plan_asks_for_what_decides_it(name: str, target: str) -> None:
    model = ResolvedModel("m.gguf", "gguf", "m.gguf", "", "digest")
    untold, told = (
        impossible(made(name), parse_target(target), known, length=16)
        for known in (model, replace(model, contents=FITS_NOTHING))
    )
    config = SweepConfig(name="m", models=("m.gguf",), methods=(name,), targets=(target,))
    assert asks_contents(config) == (untold != told)


def sweep(folder: Path, model: str, **changes: Any) -> SweepConfig:
    (folder / "text.txt").write_text("ABCDEFGH" * 100)
    text = {"source": "files", "files": [str(folder / "text.txt")]}
    measured = {"name": "text", "corpus": text, "sequence_length": 16, "windows": 2}
    settings = {"name": "first", "models": [model], "methods": ["magnitude"],
                "targets": ["0.5", "3:5"], "dtype": "float32",
                "evaluation": {"perplexity": [measured]}}  # fmt: skip
    return validate(settings | changes)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    return Session(tmp_path / "home")


@pytest.mark.parametrize("kind", ["gguf", "random"])
def test_rows_that_do_not_fit_a_target_are_told_before_the_model_is_prepared(
    kind: str, session: Session, tmp_path: Path
) -> None:
    model = str(tiny_gguf(tmp_path / "tiny.gguf")) if kind == "gguf" else "tiny-random"
    before = whole_config.cache_info().misses
    for name in ("first", "first", "second"):
        plan = session.checked_plan(sweep(tmp_path, model, name=name))
        (skipped,) = plan.skipped
        assert (skipped.target, len(plan.cells)) == ("3:5", 1)
        assert "needs rows of a multiple of 5" in skipped.reason
    # To read a GGUF file's whole configuration takes seconds.
    assert whole_config.cache_info().misses - before <= 1
    assert session.context(plan.config).find(plan.models[0].subject.weights) is None


def test_what_the_store_holds_in_full_is_planned_without_its_contents(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sweep(tmp_path, "tiny-random", targets=["2:4"])
    plan = session.checked_plan(config)
    for goal in plan.goals:
        session.context(plan.config).make(goal)
    monkeypatch.setattr(check, "contents_by_configuration", None)
    assert Session(session.root).checked_plan(config).fingerprint == plan.fingerprint
