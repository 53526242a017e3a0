"""A sweep's report as Prefect's page gets it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from configs.errors import ConfigurationError
from configs.yaml_file import validate
from flows.commands.report import rewrite_report
from flows.compute.overlap import exclusive
from tasks.plan.plan import Plan
from tasks.plan.rows import row_of
from tasks.reporting.timings import Timings
from tasks.runtime.environment import environment
from tasks.steps.report import without_files, write_folder
from tasks.steps.session import Session
from tasks.store.context import Context


def test_links_into_the_folder_become_paths_and_others_stay() -> None:
    report = (
        "# demo\n\n![perplexity](plots/a%20b.png)\n"
        "Exact: [results.csv](results.csv), [the paper](https://example.org/a), [up](#demo).\n"
    )
    assert without_files(report, "sweeps/demo") == (
        "# demo\n\n"
        "Exact: `sweeps/demo/results.csv`, [the paper](https://example.org/a), [up](#demo).\n"
    )


def planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *targets: str, exclude: Sequence[str] = ()
) -> tuple[Plan, Context]:
    """A sweep of a tiny model in a home of its own; of target 0.5 where none is named."""
    (tmp_path / "text.txt").write_text("\n".join(f"the cat sat on mat {k}" for k in range(400)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    corpus = {"source": "files", "files": [str(tmp_path / "text.txt")]}
    text = {"name": "text", "corpus": corpus, "windows": 2, "sequence_length": 16}
    config = validate({
        "name": "demo", "models": ["tiny-random"], "dtype": "float32", "methods": ["magnitude"],
        "targets": list(targets or ["0.5"]), "evaluation": {"perplexity": [text]},
        "exclude": list(exclude),
    })  # fmt: skip
    session = Session(tmp_path / "home")
    return session.checked_plan(config), session.context(config)


def test_the_report_tells_what_computed_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dense model and a cell, measured with other threads than the report's writer has."""
    plan, context = planned(tmp_path, monkeypatch)
    for row, threads in ((plan.models[0], "77"), (plan.cells[0], "99")):
        there = environment() | {"threads": threads}
        monkeypatch.setattr("tasks.store.context.environment", lambda there=there: there)
        for step in row.goals:
            context.make(step)
        assert row_of(row, context)["status"] == "completed"
    write_folder(plan, context, {}, {})
    report = (tmp_path / "home" / "sweeps" / "demo" / "report.md").read_text()
    # The cell is compared with what the dense model's own step has left.
    assert "- threads: 77 (2 rows), 99 (1 row)" in report
    assert f"- torch: {environment()['torch']}\n" in report
    assert "(threads: see What was used)" in report


def computed(plan: Plan, context: Context) -> None:
    for row in (*plan.models, *plan.cells):
        for step in row.goals:
            context.make(step)


@pytest.mark.parametrize("where", ["plots.write_plots", "pages.write_report"])
def test_a_report_that_was_cut_off_is_written_by_the_next_run(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its results were there already, so that the former report was taken for theirs."""
    nothing_new = Timings({}, [], 1.0)
    plan, context = planned(tmp_path, monkeypatch)
    computed(plan, context)
    assert write_folder(plan, context, {}, {}, nothing_new).changed
    assert not write_folder(plan, context, {}, {}, nothing_new).changed
    plan, context = planned(tmp_path, monkeypatch, "0.5", "0.7")
    computed(plan, context)
    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        cut.setattr(f"tasks.reporting.{where}", interrupted)
        write_folder(plan, context, {}, {}, nothing_new)
    written = write_folder(plan, context, {}, {}, nothing_new)
    folder = tmp_path / "home" / "sweeps" / "demo"
    assert written.changed and "0.7" in (folder / "report.md").read_text()
    assert {str(path) for path in written.plots} == {str(p) for p in folder.glob("plots/*.png")}
    assert not write_folder(plan, context, {}, {}, nothing_new).changed


def test_a_field_that_no_row_shows_is_written_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of what gc keeps follows the sweep file, so the folder must say the same."""
    nothing_new = Timings({}, [], 1.0)
    plan, context = planned(tmp_path, monkeypatch)
    computed(plan, context)
    write_folder(plan, context, {}, {}, nothing_new)
    config = plan.config.model_copy(update={"save_checkpoints": False})
    again = Session(tmp_path / "home").checked_plan(config)
    assert write_folder(again, context, {}, {}, nothing_new).changed
    folder = tmp_path / "home" / "sweeps" / "demo"
    assert "save_checkpoints: false" in (folder / "config.yaml").read_text()
    assert not write_folder(again, context, {}, {}, nothing_new).changed


def test_the_report_of_a_sweep_that_runs_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take what the sweep is at from the list of what gc keeps."""
    plan, context = planned(tmp_path, monkeypatch)
    computed(plan, context)
    write_folder(plan, context, {}, {})
    listing = tmp_path / "home" / "sweeps" / "demo" / "artifacts.json"
    listing.write_text("[]")
    with exclusive(plan.config, print), pytest.raises(ConfigurationError, match="must have ended"):
        rewrite_report("demo", Console(quiet=True))
    assert listing.read_text() == "[]"
    rewrite_report("demo", Console(quiet=True))
    assert listing.read_text() != "[]"


def test_a_report_whose_plot_is_gone_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_new = Timings({}, [], 1.0)
    plan, context = planned(tmp_path, monkeypatch)
    computed(plan, context)
    plot, *_ = write_folder(plan, context, {}, {}, nothing_new).plots
    plot.unlink()
    assert write_folder(plan, context, {}, {}, nothing_new).changed
    assert plot.exists()


def test_a_report_is_written_again_as_the_run_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What only a model's headers rule out stays skipped."""
    monkeypatch.setattr("tasks.reporting.plots.write_plots", lambda *_: [])
    plan, context = planned(tmp_path, monkeypatch, "0.5", "3:5", exclude=["model.layers.0.*"])
    assert [entry.target for entry in plan.skipped] == ["3:5"]
    computed(plan, context)
    write_folder(plan, context, {}, {})
    results = tmp_path / "home" / "sweeps" / "demo" / "results.json"
    written = results.read_text()
    rewrite_report("demo", Console(quiet=True))
    assert results.read_text() == written


def test_results_that_are_gone_are_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.reporting.plots.write_plots", lambda *_: [])
    plan, context = planned(tmp_path, monkeypatch)
    computed(plan, context)
    write_folder(plan, context, {}, {})
    results = tmp_path / "home" / "sweeps" / "demo" / "results.json"
    written = results.read_text()
    results.unlink()
    console = Console(record=True, width=200)
    rewrite_report("demo", console)
    assert results.read_text() == written
    assert "results.json was gone; why cells failed" in console.export_text()


def test_a_report_that_would_plan_a_skipped_combination_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the hub's model is not on this machine, whose headers told."""
    monkeypatch.setattr("tasks.reporting.plots.write_plots", lambda *_: [])
    plan, context = planned(tmp_path, monkeypatch, "0.5", "0.7")
    computed(plan, context)
    write_folder(plan, context, {}, {})
    results = tmp_path / "home" / "sweeps" / "demo" / "results.json"
    rows = json.loads(results.read_text())
    rows[-1] |= {"status": "skipped", "error": "its rows are too short", "fingerprint": None}
    results.write_text(json.dumps(rows))
    with pytest.raises(ConfigurationError, match="a model is not on this machine"):
        rewrite_report("demo", Console(quiet=True))
    assert json.loads(results.read_text()) == rows
