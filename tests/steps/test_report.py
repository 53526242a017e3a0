"""A sweep's report as Prefect's page gets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.yaml_file import validate
from tasks.plan.rows import row_of
from tasks.runtime.environment import environment
from tasks.steps.report import without_files, write_folder
from tasks.steps.session import Session


def test_links_into_the_folder_become_paths_and_others_stay() -> None:
    report = (
        "# demo\n\n![perplexity](plots/a%20b.png)\n"
        "Exact: [results.csv](results.csv), [the paper](https://example.org/a), [up](#demo).\n"
    )
    assert without_files(report, "sweeps/demo") == (
        "# demo\n\n"
        "Exact: `sweeps/demo/results.csv`, [the paper](https://example.org/a), [up](#demo).\n"
    )


def test_the_report_tells_what_computed_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dense model and a cell, measured with other threads than the report's writer has."""
    (tmp_path / "text.txt").write_text("\n".join(f"the cat sat on mat {k}" for k in range(400)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    corpus = {"source": "files", "files": ["text.txt"]}
    text = {"name": "text", "corpus": corpus, "windows": 2, "sequence_length": 16}
    config = validate({
        "name": "two-machines", "models": ["tiny-random"], "dtype": "float32",
        "methods": ["magnitude"], "targets": ["0.5"], "evaluation": {"perplexity": [text]},
    })  # fmt: skip
    session = Session(tmp_path / "home")
    plan, context = session.checked_plan(config), session.context(config)
    for row, threads in ((plan.models[0], "77"), (plan.cells[0], "99")):
        there = environment() | {"threads": threads}
        monkeypatch.setattr("tasks.store.context.environment", lambda there=there: there)
        for step in row.goals:
            context.make(step)
        assert row_of(row, context)["status"] == "completed"
    write_folder(plan, context, {}, {})
    report = (tmp_path / "home" / "sweeps" / "two-machines" / "report.md").read_text()
    # The cell is compared with what the dense model's own step has left.
    assert "- threads: 77 (2 rows), 99 (1 row)" in report
    assert f"- torch: {environment()['torch']}\n" in report
    assert "(threads: see What was used)" in report
