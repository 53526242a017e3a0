"""Selections through a whole sweep: a row each, with what was chosen and how well, and told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Home

pytestmark = pytest.mark.slow

SWEEP = """
name: windows
models: [tiny-random]
dtype: float32
calibration:
  corpus:
    - {source: python-docs, part: calibration, share: 3}
    - {source: files, files: [code.txt]}
  samples: 4
  sequence_length: 32
  coreset: {pool: 16, projection: 32, rank: 2, warmup_steps: 2}
selections: [contiguous, coreset]
methods: [magnitude, wanda]
targets: ["0.5"]
evaluation:
  perplexity:
    - {name: docs, corpus: {source: python-docs}, sequence_length: 32, windows: 2}
"""


def test_a_sweep_compares_ways_to_choose_windows(make_home: Callable[..., Home]) -> None:
    home = make_home()
    (home.path.parent / "code.txt").write_text("def add(a, b):\n    return a + b\n" * 200)
    home.sweep_file.write_text(SWEEP)
    status, output = home.run("run", "sweep.yaml")
    assert status == 0, output
    assert "2 selection(s)" in output
    cells = [row for row in home.rows("windows") if row["method"] != "dense"]
    found = {(row["method"], row["selection"]): row for row in cells}
    assert set(found) == {(m, s) for m in ("magnitude", "wanda") for s in ("contiguous", "coreset")}
    figures = {place: row["perplexity/docs"] for place, row in found.items()}
    assert figures["magnitude", "contiguous"] == figures["magnitude", "coreset"]
    assert figures["wanda", "contiguous"] != figures["wanda", "coreset"]
    assert found["wanda", "coreset"]["coreset/gradient_error"] > 0
    assert found["wanda", "contiguous"]["coreset/gradient_error"] is None
    report = (home.path / "sweeps" / "windows" / "report.md").read_text()
    assert "coreset of 4 of 16 windows with seed 0 holds" in report
    assert "contiguous | coreset" in report.replace("\\", "")
    assert "What the windows are of" in report
    assert (home.path / "sweeps" / "windows" / "plots" / "calibration-by-source.png").is_file()
    params = home.mlflow("select value from params where key = 'calibration/sources'")
    assert any("of code.txt" in value for (value,) in params)
    metrics = home.mlflow("select value from metrics where key = 'coreset/gradient_error'")
    assert [value for (value,) in metrics] == [found["wanda", "coreset"]["coreset/gradient_error"]]
    status, output = home.run(
        "diff", "windows:wanda@0.5,selection=contiguous", "windows:wanda@0.5,selection=coreset"
    )
    assert status == 0, output
    assert "calibration sampling" in output
    status, output = home.run("run", "sweep.yaml")
    assert status == 0, output
    status, output = home.run("plan", "sweep.yaml", COLUMNS="200")
    assert "0 to compute" in output
    assert "shared with contiguous seed 0" in output
