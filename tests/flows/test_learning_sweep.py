"""Sweeps of methods that learn, through the command line: figures, curves, checkpoints, kills."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Home, figures, kill_group
from safetensors.torch import load_file

from tasks.data.windows import load_windows
from tasks.measures.perplexity.perplexity import perplexity
from tasks.models.saved.pruned import load_pruned

pytestmark = pytest.mark.slow

SWEEP = """
name: demo
models: [tiny-random]
dtype: float32
calibration: {corpus: {source: python-docs}, samples: 2, sequence_length: 64}
training: {sequence_length: 64, samples: 16, checkpoint_seconds: 0}
methods: [wanda_sp, policy_gradient, ast]
options:
  policy_gradient: {steps: 5, masks: 2, batch_size: 2, sequence_length: 32, channel_group: 8}
  ast: {steps: 60, batch: 2, micro_batch: 1}
variants:
  boosted: {method: ast, options: {steps: 6, slorb: true}}
targets: ["0.3", "2:4"]
evaluation:
  perplexity:
    - {name: docs, corpus: {source: python-docs}, sequence_length: 64, windows: 2}
"""
JUDGED = 2 * 4 * 64
"""Policy gradient judges its choice at the start and in the end, on a quarter of 16 windows."""
TOKENS = {"policy_gradient": 5 * 2 * 2 * 32 + JUDGED, "ast": 60 * 2 * 64, "boosted": 6 * 2 * 64}


@pytest.fixture(scope="module")
def learned(make_home: Callable[..., Home]) -> Home:
    """A home in which the sweep has run once, uninterrupted."""
    home = make_home()
    home.sweep_file.write_text(SWEEP)
    status, output = home.run("run", "sweep.yaml")
    assert status == 0, output
    (home.path.parent / "output.txt").write_text(output)
    return home


def cells(home: Home) -> dict[str, dict]:
    return {r["method"]: r for r in home.rows() if r["status"] == "completed"}


def test_rows_and_table_say_what_was_learned(learned: Home) -> None:
    rows = cells(learned)
    assert rows.keys() == {"dense", "wanda_sp", "policy_gradient", "ast", "boosted"}
    for name, row in rows.items():
        assert row["training_tokens"] == TOKENS.get(name, 0)
    assert [rows[n]["learned"] for n in ("wanda_sp", "policy_gradient", "ast", "boosted")] == [
        "", "mask", "weights", "weights",
    ]  # fmt: skip
    assert "weights, 7.68k" in (learned.path.parent / "output.txt").read_text()
    report = (learned.path / "sweeps" / "demo" / "report.md").read_text()
    assert "weights, 7.68k" in report
    assert "Training: " in report and "beyond its first 128 tokens; 16 windows of 64" in report
    assert re.search(r"- boosted 2:4: [\d,]+ weights of side branches are measured", report)
    assert "ast 2:4:" not in report


def test_prefect_shows_progress_of_what_learns(make_home: Callable[..., Home]) -> None:
    home = make_home(embedded=True)
    home.sweep_file.write_text(SWEEP)
    status, output = home.run(
        "run", "sweep.yaml", "--set", "methods=[magnitude,ast]", "--set", "variants={}"
    )
    assert status == 0, output
    shown = home.prefect("select description, data from artifact where type = 'progress'")
    trainings = [(text, data) for text, data in shown if text.startswith("tiny-random ast")]
    assert [(text, float(data)) for text, data in trainings][-1] == (
        "tiny-random ast 2:4: retrain: 60 steps", 100.0,
    )  # fmt: skip


def test_removed_heads_and_channels_make_the_model_smaller(learned: Home) -> None:
    rows = cells(learned)
    for name in ("wanda_sp", "policy_gradient"):
        assert rows[name]["parameters"] < rows["dense"]["parameters"]
        assert rows[name]["sparsity"] == pytest.approx(0.3, abs=0.15)
    assert rows["ast"]["parameters"] == rows["dense"]["parameters"]
    assert rows["boosted"]["parameters"] > rows["dense"]["parameters"], "its branch counts"
    assert rows["ast"]["sparsity"] == 0.5


def test_checkpoints_give_the_figures_that_the_table_says(learned: Home) -> None:
    """Sliced and full-size alike; with its side branch where there is one."""
    from transformers import AutoModelForCausalLM

    evaluated = {
        path: load_windows(path)
        for path in (learned.path / "artifacts" / "tokens").glob("*/windows.safetensors")
    }
    windows = next(tokens for tokens in evaluated.values() if _is_heldout(tokens, evaluated))
    for name, row in cells(learned).items():
        if name == "dense":
            continue
        folder = Path(row["checkpoint"])
        model = load_pruned(folder)
        assert perplexity(model, windows).perplexity == pytest.approx(
            row["perplexity/docs"], rel=1e-5
        )
        stock = AutoModelForCausalLM.from_pretrained(folder).eval()
        plain = perplexity(stock, windows).perplexity
        if name == "boosted":
            assert (folder / "slorb.safetensors").is_file()
            assert plain != pytest.approx(row["perplexity/docs"], rel=1e-4)
        else:
            assert plain == pytest.approx(row["perplexity/docs"], rel=1e-5)


def _is_heldout(tokens: torch.Tensor, evaluated: dict[Path, torch.Tensor]) -> bool:
    """The evaluation's two windows, not calibration's, which the training text would continue."""
    path = next(p for p, t in evaluated.items() if t is tokens)
    inputs = json.loads((path.parent / "manifest.json").read_text())["inputs"]
    corpora = [
        json.loads((p.parent / "manifest.json").read_text())["inputs"]["corpus"] for p in evaluated
    ]
    return corpora.count(inputs["corpus"]) == 1


def test_mlflow_has_the_curves_step_by_step(learned: Home) -> None:
    query = (
        "select m.step, m.value from metrics m join params p on p.run_uuid = m.run_uuid"
        " where m.key = 'learning/{}' and p.key = 'method' and p.value = '{}' order by m.step"
    )
    losses = learned.mlflow(query.format("loss", "policy_gradient"))
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5]
    losses = learned.mlflow(query.format("loss", "ast"))
    assert [step for step, _ in losses] == list(range(1, 61))
    assert losses[-1][1] < losses[0][1]
    for key in ("flip_rate", "learning_rate", "decay"):
        assert len(learned.mlflow(query.format(key, "ast"))) == 60


def test_a_killed_training_goes_on_and_ends_with_the_same_bits(
    make_home: Callable[..., Home], learned: Home
) -> None:
    home = make_home()
    home.sweep_file.write_text(SWEEP)
    process = home.start("run", "sweep.yaml", "--set", "methods=[ast]", "--set", "variants={}")
    deadline = time.monotonic() + 200
    while not list(home.path.glob("training/*/checkpoints/step-*1?")):
        assert process.poll() is None and time.monotonic() < deadline, "no training to kill"
        time.sleep(0.02)
    kill_group(process)
    assert home.run("gc")[0] == 0
    kept = list(home.path.glob("training/*/checkpoints/step-*"))
    assert kept, "gc drops what the sweep goes on from"
    status, output = home.run("run", "sweep.yaml")
    assert status == 0, output
    assert figures(home.rows()) == figures(learned.rows())
    ours, theirs = (
        load_file(Path(cells(h)["ast"]["checkpoint"]) / "model.safetensors")
        for h in (home, learned)
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not list(home.path.glob("training/*")), "scratch is removed at the end"
    history = json.loads(next(home.path.glob("artifacts/pruned/*/history.json")).read_text())
    assert history


def test_two_processes_train_and_give_nearly_the_same(
    make_home: Callable[..., Home], learned: Home
) -> None:
    home = make_home()
    home.sweep_file.write_text(SWEEP)
    status, output = home.run(
        "run", "sweep.yaml", "--set", "methods=[ast]", "--set", "variants={}",
        "--set", "training.processes=2",
    )  # fmt: skip
    assert status == 0, output
    one, two = (cells(h)["ast"] for h in (learned, home))
    assert one["fingerprint"] == two["fingerprint"]
    assert two["perplexity/docs"] == pytest.approx(one["perplexity/docs"], rel=1e-3)


def test_a_model_without_known_heads_is_skipped_with_its_reason(
    make_home: Callable[..., Home], tmp_path: Path
) -> None:
    import tiny
    from transformers import AutoTokenizer

    from configs.trust import Trust
    from tasks.models.prepare import prepare
    from tasks.models.sources.sources import resolve_model

    source = resolve_model(
        "tiny-random", field="models", base=Path(), trust=Trust(), digest_cache=None
    )
    prepare(source, tmp_path / "tiny")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tiny")
    model = tiny.gpt_neox()
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path / "neox")
    tokenizer.save_pretrained(tmp_path / "neox")
    home = make_home()
    home.sweep_file.write_text(SWEEP)
    status, output = home.run(
        "run", "sweep.yaml", "--set", "methods=[magnitude,wanda_sp]", "--set", "variants={}",
        "--set", f"models=[{tmp_path / 'neox'}]", "--set", "targets=[0.3]",
    )  # fmt: skip
    assert status == 0, output
    skipped = next(row for row in home.rows() if row["status"] == "skipped")
    assert skipped["method"] == "wanda_sp"
    assert "LLaMA-like" in skipped["error"]
    assert cells(home)["magnitude"]["perplexity/docs"] > 1
    shutil.rmtree(home.path, ignore_errors=True)
