"""A sweep that asks how sure answers are, through the real command, to the report and diff."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Home

pytestmark = pytest.mark.slow

SWEEP = """
name: sure
models: [model]
dtype: float32
calibration: {corpus: {source: python-docs}, samples: 3, sequence_length: 64}
methods: [magnitude, wanda]
targets: ["0.01", "0.7"]
save_checkpoints: false
evaluation:
  perplexity:
    - {name: docs, corpus: {source: python-docs}, sequence_length: 64, windows: 2}
  zero_shot: {tasks: [colours], include_path: tasks}
  uncertainty: {samples: 2, subset: 2}
"""
TASK = """
task: colours
dataset_path: json
dataset_kwargs: {{data_files: {{test: "{data}"}}}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: answer
doc_to_choice: [red, tan, sky]
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""
QUESTIONS = 30


@pytest.fixture(scope="module")
def measured(make_home: Callable[..., Home]) -> Home:
    import tiny

    from tasks.models.sources.random_model import tokenizer

    home = make_home()
    folder = home.path.parent
    words = tokenizer()
    words.add_special_tokens({"eos_token": "<|endoftext|>"})
    model = tiny.llama(vocab_size=300, eos_token_id=256)
    with torch.no_grad():  # as they are made, blocks hardly move the logits
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    model.save_pretrained(folder / "model")
    words.save_pretrained(folder / "model")
    (folder / "tasks").mkdir()
    lines = [json.dumps({"question": f"after {n} comes {n * 7919 % 997}", "answer": n % 3})
             for n in range(QUESTIONS)]  # fmt: skip
    (folder / "questions.jsonl").write_text("\n".join(lines))
    task = TASK.format(data=folder / "questions.jsonl")
    (folder / "tasks" / "colours.yaml").write_text(task)
    home.sweep_file.write_text(SWEEP)
    status, output = home.run("run", "sweep.yaml")
    assert status == 0, output
    return home


def rows_of(home: Home) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["method"], row["target"]): row for row in home.rows("sure")}


def test_rows(measured: Home) -> None:
    rows = rows_of(measured)
    assert len(rows) == 5
    for (method, target), row in rows.items():
        assert row["status"] == "completed", row["error"]
        assert row["zero_shot/colours/ece"] >= 0
        assert (row["uncertainty/colours"] is None) == (method != "wanda")
        assert (row["uncertainty/no members"] is None) == (method != "magnitude")
        if method == "dense":
            continue
        share = row["answers/colours/mended"] - row["answers/colours/broken"]
        change = row["zero_shot/mean"] - rows["dense", ""]["zero_shot/mean"]
        assert share / QUESTIONS == pytest.approx(change)
        assert 0 <= row["answers/colours/agreement"] <= 1
        assert row["answers/colours/low"] <= change <= row["answers/colours/high"]
        if target == "0.01":
            assert row["answers/colours/agreement"] > 0.9
    little, much = (rows["wanda", target]["uncertainty/colours"] for target in ("0.01", "0.7"))
    assert little < much


def test_report_and_tracking_tell_it(measured: Home) -> None:
    folder = measured.path / "sweeps" / "sure"
    text = (folder / "report.md").read_text()
    assert "magnitude looks at no calibration text" in text
    assert "−U against accuracy, over cells: 2 cells, too few to tell" in text
    assert "rank no models by it" in text
    drawn = {path.name for path in (folder / "plots").glob("*.png")}
    assert {"accuracy-against-u.png"} <= drawn
    assert len([name for name in drawn if "by-coverage" in name]) == 2
    assert "The surest questions first" in text
    logged = {row[0] for row in measured.mlflow("select distinct key from metrics")}
    assert {"uncertainty/colours", "uncertainty/colours/agreement", "answers/colours/p"} <= logged
    params = {row[0] for row in measured.mlflow("select distinct key from params")}
    # What the ensemble was asked stands in what the dense model was asked, and nowhere else.
    assert {"uncertainty/all/reference/colours/limit"} <= params
    assert not [name for name in params if "member/" in name or "reference/colours/weights" in name]


def test_no_checkpoint_is_left(measured: Home) -> None:
    left = list((measured.path / "artifacts").rglob("model.safetensors"))
    assert left == []
    assert len(list((measured.path / "artifacts" / "member").iterdir())) == 4


def test_again_nothing_is_computed(measured: Home) -> None:
    before = {path: path.stat().st_mtime_ns for path in measured.path.glob("artifacts/*/*")}
    status, output = measured.run("run", "sweep.yaml")
    assert status == 0, output
    kept = measured.path.glob("artifacts/*/*")
    assert before == {path: path.stat().st_mtime_ns for path in kept}


def test_diff_lists_broken_questions(measured: Home) -> None:
    asked = ("--metric", "zero_shot/mean", "--questions", "2")
    status, output = measured.run("diff", "sure:dense", "sure:wanda@0.7", *asked)
    assert status == 0, output
    row = rows_of(measured)["wanda", "0.7"]
    assert row["answers/colours/broken"] > 1
    assert f"on {QUESTIONS} questions" in " ".join(output.split())
    assert output.count("colours, document") == 2
    status, output = measured.run("diff", "sure:dense", "sure:wanda@0.7", *asked, "--json")
    machine = json.loads(output)["answers"]
    assert machine["tasks"]["colours"]["broken"] == row["answers/colours/broken"]
    assert machine["tasks"]["colours"]["p"] == row["answers/colours/p"]


def test_diff_without_the_store_says_so(measured: Home, tmp_path: Path) -> None:
    shutil.copytree(measured.path / "sweeps", tmp_path / "sweeps")
    asked = ("--metric", "zero_shot/mean", "--home", str(tmp_path))
    status, output = measured.run("diff", "sure:dense", "sure:wanda@0.7", *asked)
    assert status == 0, output
    assert "does not hold its questions here" in " ".join(output.split())
    listed = (*asked, "--questions", "3")
    status, output = measured.run("diff", "sure:dense", "sure:wanda@0.7", *listed)
    assert status == 2
    assert "--questions" in output


def test_seeds_share_one_ensemble(measured: Home) -> None:
    """Both cells show it, no checkpoint is left, and gc keeps what it was made from."""
    text = SWEEP.replace("name: sure", "name: seeded").replace("[magnitude, wanda]", "[wanda]")
    text = text.replace('["0.01", "0.7"]', '["0.7"]').replace(
        "samples: 3,", "samples: 3, sampling: random,"
    )
    text = text.replace("{samples: 2, subset: 2}", "{source: seeds}") + "seeds: [0, 1]\n"
    (measured.path.parent / "seeded.yaml").write_text(text)
    status, output = measured.run("run", "seeded.yaml")
    assert status == 0, output
    rows = [row for row in measured.rows("seeded") if row["method"] == "wanda"]
    assert [row["seed"] for row in rows] == [0, 1]
    assert rows[0]["uncertainty/colours"] == rows[1]["uncertainty/colours"] > 0
    assert rows[0]["perplexity/docs"] != rows[1]["perplexity/docs"]
    assert list((measured.path / "artifacts").rglob("model.safetensors")) == []
    assert measured.run("gc")[0] == 0
    before = {path: path.stat().st_mtime_ns for path in measured.path.glob("artifacts/*/*")}
    assert measured.run("run", "seeded.yaml")[0] == 0
    after = {path: path.stat().st_mtime_ns for path in measured.path.glob("artifacts/*/*")}
    assert before == after
    status, output = measured.run("diff", "seeded:dense", "seeded:wanda@0.7#1")
    assert status == 0, output
