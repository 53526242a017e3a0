"""Excluded layers through a whole sweep: told before, counted, and shown wherever zeros are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Home

from configs.schema import SweepConfig
from tasks.plan.sweep import plan_sweep

SWEEP = """
name: left
models: [tiny-random]
dtype: float32
calibration: {corpus: {source: python-docs}, samples: 2, sequence_length: 64}
methods: [magnitude, wanda_sp]
targets: ["0.5"]
exclude: [model.layers.0.*, "*.down_proj"]
evaluation:
  perplexity:
    - {name: docs, corpus: {source: python-docs}, sequence_length: 64, windows: 2}
"""
SETTINGS = {
    "name": "left",
    "models": ["tiny-random"],
    "methods": ["magnitude"],
    "targets": ["0.5"],
    "calibration": {"corpus": {"source": "python-docs"}, "samples": 2, "sequence_length": 64},
}
# Of tiny-random: three blocks with 4·64·64 − 2·32·64 = 12 288 and 3·160·64 = 30 720 weights.
BLOCK, DOWN = 12_288 + 30_720, 10_240
LEFT = BLOCK + 2 * DOWN


def checkpoint(*exclude: str) -> SimpleNamespace:
    plan = plan_sweep(SweepConfig(**SETTINGS, exclude=exclude), dtype="float32")
    step = plan.cells[0].checkpoint
    return SimpleNamespace(fingerprint=step.fingerprint, inputs=step.inputs)


def test_excluding_nothing_is_no_input_and_the_order_of_patterns_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path))
    assert "exclude" not in checkpoint().inputs
    one, other = checkpoint("*.q_proj", "lm_head"), checkpoint("lm_head", "*.q_proj")
    assert one.inputs["exclude"] == ["*.q_proj", "lm_head"]
    assert one.fingerprint == other.fingerprint != checkpoint().fingerprint


@pytest.mark.slow
def test_excluded_weights_stand_beside_the_zeros(make_home: Callable[..., Home]) -> None:
    home = make_home()
    home.sweep_file.write_text(SWEEP)
    status, planned = home.run("plan", "sweep.yaml")
    assert status == 0, planned
    share = LEFT / (3 * BLOCK)
    assert f"exclude leaves 9 layers dense, {share:.1%} of the weights" in " ".join(planned.split())
    status, output = home.run("run", "sweep.yaml")
    assert status == 0, output
    assert "excluded" in output
    rows = {row["method"]: row for row in home.rows("left")}
    assert rows["dense"]["excluded_weights"] is None
    magnitude = rows["magnitude"]
    assert (magnitude["exempt_weights"], magnitude["excluded_weights"]) == (0, LEFT)
    assert magnitude["sparsity"] == pytest.approx(0.5 * (1 - share), abs=1e-4)
    # Its channels all stay, and the heads of two blocks may go.
    assert 0 < rows["wanda_sp"]["sparsity"] <= 2 * 12_288 / (3 * BLOCK)
    folder = home.path / "sweeps" / "left"
    report = " ".join((folder / "report.md").read_text().split())
    assert f"leaves 9 layers dense, {LEFT:,} of the {3 * BLOCK:,} weights" in report
    inputs = json.loads((folder / "inputs.json").read_text())["steps"]
    assert ["*.down_proj", "model.layers.0.*"] in [
        step["inputs"].get("exclude") for step in inputs.values()
    ]
    params = dict(home.mlflow("select key, value from params where key like 'pruning/exclude%'"))
    assert params == {
        "pruning/exclude": '["*.down_proj", "model.layers.0.*"]',
        "pruning/excluded": f"9 layers, {LEFT} weights",
    }
    status, _ = home.run("run", "sweep.yaml", "--set", "exclude=[]", "--set", "name=all")
    assert status == 0
    status, told = home.run("diff", "left:magnitude@0.5", "all:magnitude@0.5")
    assert status == 0, told
    said = " ".join(told.split())
    assert "layers excluded" in said and '["*.down_proj", "model.layers.0.*"]' in said, said
