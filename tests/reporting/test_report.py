"""The report says what was run, marks the best, and survives hostile text."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from tasks.measures.figures import Figure
from tasks.reporting.context import CalibrationFacts, ModelFacts, ReportContext
from tasks.reporting.pages import write_report
from tasks.reporting.pages.report import render_report
from tasks.reporting.rows import Row
from tasks.reporting.text import escape_markdown
from tasks.reporting.timings import CellTiming, Timings

from .conftest import cell_row, dense_row, failed_row, figures_in


@pytest.fixture
def context() -> ReportContext:
    return ReportContext(
        name="my_sweep",
        models=[
            ModelFacts(name="tiny", source="a folder", revision="r1", digest="aa", parameters=10**6)
        ],
        dtype="float32",
        calibration=CalibrationFacts(
            description="docs, first half",
            digest="bb",
            windows=32,
            window_tokens=512,
            sampling="random",
            seed=7,
        ),
        measured={"perplexity on docs": "docs, second half; 8 windows; SHA-256 cc"},
        notes=["KL: as is."],
        across=[(Figure(column="rank", label="rank correlation", heading="", group=""), 0.912)],
        environment={"code": "0.1.0 (abc)", "torch": "2.6"},
        skipped=[("tiny", "ast", "0.5", "ast takes keep:group such as 2:4")],
        timings=Timings({"load": 3.0}, [CellTiming("wanda 0.5", 40.0, 30.0, 72.0)], 80.0),
    )


def _line(report: str, *starts: str) -> str:
    return next(line for line in report.splitlines() if line.startswith("| " + " | ".join(starts)))


def test_the_report_tells_everything(rows: list[Row], context: ReportContext) -> None:
    report = render_report(
        [*rows, failed_row("boom")], figures_in(rows), context, ["plots/a b.png"]
    )
    assert report.startswith("# Sweep my_sweep\n\ntiny in float32, pruned with magnitude, wanda")
    for told in (
        "9 of 10 cells completed",
        "revision `r1`, 1.0 M parameters; SHA-256 `aa`",
        "32 windows of 512 tokens, random (seed 7 and the cell's own); SHA-256 `bb`",
        "- Perplexity on docs: docs, second half; 8 windows; SHA-256 cc",
        "Judged by perplexity on docs (lower is better).",
        "- KL: as is.",
        "## Across the sweep\n\n- rank correlation: 0.912",
        "- code: 0.1.0 (abc)",
        "![a b](plots/a%20b.png)",
        "| tiny | ast | 0.5 | ast takes keep:group such as 2:4 |",
        "| tiny wanda 0.7, seed 0 | boom |",
        "| wanda 0.5 | 40.0 | 30.0 | 2.00 | 72.0 |",
        "ratio 1.10",
        "```sh\nsecateur run config.yaml\n```",
        "`checkpoint` column",
    ):
        assert told in report


def test_dense_first_and_the_best_in_bold(rows: list[Row], context: ReportContext) -> None:
    report = render_report(rows, figures_in(rows), context)
    assert _line(report, "dense") == "| dense |  | 28.10 | 1.00 |  |"
    assert "| **60.50** | 2.15 | 50.0 |" in _line(report, "wanda", "0.5")
    assert report.count("**33.00**") == 1
    assert "**62.00**" not in report and "**28.10**" not in report
    assert "the best of each target, and what ties with it. " in report


def test_several_seeds_are_told_to_be_marked_by_their_mean(
    rows: list[Row], context: ReportContext
) -> None:
    rows += [row | {"seed": 1} for row in rows[1:]]
    report = render_report(rows, figures_in(rows), context)
    assert "what ties with it; of several seeds their mean, in *Over the seeds*. " in report
    before, _, after = report.partition("### Over the seeds")
    assert "**" not in before and "| **60.50** |" in after


def test_seeds_and_models_have_columns_only_where_there_are_several(
    context: ReportContext,
) -> None:
    rows = [dense_row(), cell_row("wanda", "0.5", 60.0)]
    assert "| method | target | perplexity |" in render_report(rows, figures_in(rows), context)
    rows += [cell_row("wanda", "0.5", math.inf, seed=1), dense_row("other")]
    report = render_report(rows, figures_in(rows), context)
    assert "| model | method | target | seed | perplexity |" in report
    assert _line(report, "tiny", "wanda", "0.5", "1").split(" | ")[4] == "diverged"


def test_tables_keep_their_columns_whatever_an_error_says(context: ReportContext) -> None:
    error = "KeyError: 'a|b' `c` <img src=x> \\| **d**\n| e | f |\n\n```\n# g"
    report = render_report([failed_row(error)], [], context)
    line = _line(report, "tiny wanda 0.7")
    unescaped = line.replace("\\\\", "").replace("\\|", "")
    assert unescaped.count("|") == 3
    assert "<img" not in report
    assert "No cell completed." in report
    assert "\\`c\\`" in line


def test_an_endless_error_is_cut(context: ReportContext) -> None:
    assert len(_line(render_report([failed_row("x" * 10**5)], [], context), "tiny")) < 1000


def test_optional_parts_are_left_out(rows: list[Row], context: ReportContext) -> None:
    bare = dataclasses.replace(
        context, timings=None, skipped=(), calibration=None, checkpoints_kept=False
    )
    report = render_report(rows, figures_in(rows), bare)
    for absent in ("## Time", "## Skipped", "## Failed", "## Plots", "Calibration"):
        assert absent not in report
    assert "were not kept" in report


def test_plots_are_linked_from_the_report(
    rows: list[Row], context: ReportContext, tmp_path: Path
) -> None:
    path = write_report(rows, figures_in(rows), context, tmp_path, [tmp_path / "plots" / "x.png"])
    assert path == tmp_path / "report.md"
    assert "![x](plots/x.png)" in path.read_text()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["report.html", "report.md"]


def test_plots_of_several_kinds_have_headings(rows: list[Row], context: ReportContext) -> None:
    links = [f"plots/{name}.png" for name in ("kl-vs-sparsity", "kl-vs-time", "x-by-layer-m")]
    report = render_report(rows, figures_in(rows), context, [*links, "plots/other.png"])
    order = [
        "### Against sparsity", "(plots/kl-vs", "### What a quality costs", "Paler",
        "(plots/kl-vs-time", "### Layer by layer", "(plots/x-by", "(plots/other",
    ]  # fmt: skip
    places = [report.index(part) for part in order]
    assert places == sorted(places)
    alone = render_report(rows, figures_in(rows), context, links[:1])
    assert "### Against" not in alone


def test_escaping_keeps_names_readable() -> None:
    assert escape_markdown("policy_gradient") == "policy_gradient"
    assert escape_markdown("_a_ *b* [c] $d$ <e> & |") == (
        "\\_a\\_ \\*b\\* \\[c\\] \\$d\\$ &lt;e&gt; &amp; \\|"
    )
    assert escape_markdown("a\n\nb") == "a<br>b"
