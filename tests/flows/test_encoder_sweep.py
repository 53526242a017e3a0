"""A sweep over an encoder: pruned, tuned for slot filling, scored; and what is refused of one."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Home
from support import encoders

SWEEP = """
name: slots
models: [encoder]
dtype: float32
calibration: {corpus: {source: python-docs}, samples: 4, sequence_length: 64}
methods: [wanda]
targets: ["2:4"]
evaluation:
  perplexity: []
  slot_filling:
    - {name: after, data: {tweets: 20}, epochs: 2, max_tokens: 128}
    - {name: before, data: {tweets: 20}, epochs: 2, max_tokens: 128, finetune: before}
"""
TEXTS = """
  text_classification: [{name: texts, data: {train: texts.jsonl}, epochs: 2}]
  token_classification: [{name: spans, data: {train: spans.jsonl}, epochs: 2, finetune: before}]
"""


@pytest.fixture(scope="module")
def swept(make_home: Callable[..., Home]) -> Home:
    home = make_home()
    encoders.write(home.path.parent / "encoder", max_position_embeddings=256)
    lines = [json.dumps({"text": f"text {n}", "label": ["even", "odd"][n % 2]}) for n in range(16)]
    (home.sweep_file.parent / "texts.jsonl").write_text("\n".join(lines))
    lines = [
        json.dumps({"tokens": ["see", f"a{n}", "b"], "labels": ["O", "B-X", "I-X"]})
        for n in range(16)
    ]
    (home.sweep_file.parent / "spans.jsonl").write_text("\n".join(lines))
    home.sweep_file.write_text(SWEEP + TEXTS)
    status, output = home.run("run", "sweep.yaml")
    assert status == 0, output
    return home


def artifacts(home: Home, step: str) -> list[Path]:
    return sorted((home.path / "artifacts" / step).iterdir())


@pytest.mark.slow
def test_both_ways_of_tuning_stand_in_a_row(swept: Home) -> None:
    dense, cell = swept.rows("slots")
    assert [row["status"] for row in (dense, cell)] == ["completed", "completed"]
    for row in (dense, cell):
        for name in ("after", "before"):
            assert 0 <= row[f"slot_f1/{name}"] <= 1
            assert row[f"dense_slot_f1/{name}"] == dense[f"slot_f1/{name}"]
            assert row[f"slot_f1/{name}/stderr"] >= 0
        assert row["parameters"] > 0
    assert dense["slot_f1/after"] == dense["slot_f1/before"], "one tuning serves both"
    assert len(artifacts(swept, "slot_data")) == 1
    assert len(artifacts(swept, "slot_finetune")) == 2, "the dense model's and the cell's"
    logged = {row[0] for row in swept.mlflow("select distinct key from metrics")}
    assert {"slot_f1/after", "slot_f1/before/precision", "accuracy/texts"} <= logged
    report = (swept.path / "sweeps" / "slots" / "report.md").read_text()
    assert "no figures of the shared task" in report


@pytest.mark.slow
def test_texts_of_one_s_own_stand_in_the_same_row(swept: Home) -> None:
    for row in swept.rows("slots"):
        assert 0 <= row["accuracy/texts"] <= 1
        assert row["accuracy/texts/stderr"] >= 0
        assert 0 <= row["accuracy/texts/macro_f1"] <= 1
    for path in artifacts(swept, "label_score"):
        with (path / "classes.csv").open() as file:
            assert [line["label"] for line in csv.DictReader(file)] == ["even", "odd"]


@pytest.mark.slow
def test_labelled_words_of_one_s_own_stand_in_the_same_row(swept: Home) -> None:
    for row in swept.rows("slots"):
        for share in ("", "/precision", "/recall", "/token_accuracy"):
            assert 0 <= row[f"span_f1/spans{share}"] <= 1
            assert row[f"span_f1/spans{share}/stderr"] >= 0
        assert "span_f1/spans/words_unread" not in row
    assert len(artifacts(swept, "token_finetune")) == 1, "the dense model's, pruned afterwards"
    for path in artifacts(swept, "token_score"):
        with (path / "types.csv").open() as file:
            assert [(line["label"], line["N"]) for line in csv.DictReader(file)] == [("X", "4")]
    report = (swept.path / "sweeps" / "slots" / "report.md").read_text()
    assert "test words: 12, of them cut: 0" in report


@pytest.mark.slow
def test_what_tuning_lost_and_found_is_drawn(swept: Home) -> None:
    """A curve of the loss by epoch in tracking; precision against recall, a map of events."""
    found = swept.mlflow("select key, step from metrics where key like 'learning/%' order by step")
    steps: dict[str, set[int]] = {}
    for key, step in found:
        steps.setdefault(key, set()).add(int(step))
    names = ("slot_filling/after", "slot_filling/before", "text_classification/texts",
        "token_classification/spans",
    )  # fmt: skip
    assert steps == {f"learning/{name}/loss": {1, 2} for name in names}
    drawn = {path.stem for path in (swept.path / "sweeps" / "slots" / "plots").iterdir()}
    assert any("-by-recall-" in name for name in drawn)
    assert any("-by-part-" in name for name in drawn)
    report = (swept.path / "sweeps" / "slots" / "report.md").read_text()
    assert "Precision against recall" in report
    assert "What each part lost" in report


@pytest.mark.slow
def test_what_was_pruned_stays_pruned_through_tuning(swept: Home) -> None:
    from transformers import AutoModel

    from tasks.models.architecture.decoder import describe

    (_, cell) = swept.rows("slots")
    pruned = describe(AutoModel.from_pretrained(cell["checkpoint"]))
    zeros = {name: layer.whole == 0 for name, layer in pruned.layers().items()}
    tuned = [AutoModel.from_pretrained(path) for path in artifacts(swept, "slot_finetune")]
    held = [
        {name: layer.whole for name, layer in describe(model).layers().items()} for model in tuned
    ]
    found = [w for w in held if any((weight == 0).any() for weight in w.values())]
    assert len(found) == 1, "the dense model's tuning holds nothing"
    for name, weight in found[0].items():
        assert torch.equal(weight == 0, zeros[name]), name
        assert ((weight.reshape(-1, 4) != 0).sum(1) <= 2).all()
        assert not torch.equal(weight, pruned.layers()[name].whole), "what was kept has moved"


@pytest.mark.slow
def test_every_slot_has_a_line(swept: Home) -> None:
    for path in artifacts(swept, "slot_score"):
        with (path / "slots.csv").open() as file:
            lines = list(csv.DictReader(file))
        assert len(lines) == 33
        for line in lines:
            assert int(line["TP"]) + int(line["FN"]) == int(line["N"])
            assert 0.05 <= float(line["threshold"]) <= 0.95


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["evaluation.perplexity=[{}]"], "evaluation.perplexity needs a decoder"),
        (["evaluation.speed=true"], "evaluation.speed needs a decoder"),
        (["evaluation.slot_filling=[]"], "no measure of this sweep looks at"),
        (["methods=[ast]", "options.ast.distillation=false"], "encoders predict none"),
        (["methods=[flip_gradient]", "targets=[0.5]"], "encoders make none"),
        (["methods=[policy_gradient]", "targets=[0.5]"], "set training.sequence_length=128"),
        (["evaluation.text_classification=[{data: {train: none}}]"], "none' is not possible"),
        (["evaluation.slot_filling=[{data: {source: files, train: none}}]"], "no such folder"),
    ],
)
def test_what_no_encoder_has_is_refused(
    settings: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from configs.errors import ConfigurationError
    from configs.yaml_file import load
    from tasks.plan.sweep import plan_sweep

    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    encoders.write(tmp_path / "encoder")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    config: Any = load("sweep.yaml", settings)
    with pytest.raises(ConfigurationError) as raised:
        plan_sweep(config, dtype="float32")
    assert told in str(raised.value)


def test_what_learns_from_hidden_states_departs_from_its_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its options: an encoder has no loss of a next token."""
    from configs.yaml_file import load
    from tasks.plan.rows import rows_of
    from tasks.plan.sweep import plan_sweep
    from tasks.steps.session import session

    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    encoders.write(tmp_path / "encoder")
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    published = "options.ast={momentum: published, mask_until: 1}"
    config: Any = load("sweep.yaml", ["methods=[ast, wanda]", published])
    plan = plan_sweep(config, dtype="float32")
    departs = {
        row["method"]: row["departs"] for row in rows_of(plan, session().context(config), {})[1:]
    }
    assert departs == {"ast": "learns from hidden states", "wanda": ""}


def test_a_hub_s_encoder_is_known_by_its_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any of its files is here."""
    from configs.errors import ConfigurationError
    from configs.yaml_file import load
    from tasks.models.sources.sources import ResolvedModel
    from tasks.plan.sources import Sources
    from tasks.plan.sweep import plan_sweep

    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    there = ResolvedModel("org/bert", "hub", "", "0" * 40, "d" * 64, model_type="bert")
    settings = ["models=[org/bert]", "evaluation.perplexity=[{}]"]
    config = load(str(tmp_path / "sweep.yaml"), settings)
    with pytest.raises(ConfigurationError, match="an encoder, which predicts no next token"):
        plan_sweep(config, dtype="float32", sources=Sources({"org/bert": there}))
