"""Tables fit a terminal, show every figure, and never trip over an error's own text."""

from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console
from rich.table import Table

from tasks.reporting.console import errors_text, results_artifact, results_table
from tasks.reporting.rows import Row
from tasks.reporting.timings import CellTiming, Timings

from .conftest import cell_row, dense_row, failed_row


def _shown(table: Table, width: int, encoding: str = "utf-8", **more: bool) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    console = Console(file=file, width=width, **more)  # type: ignore[arg-type]
    console.print(table)
    file.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("width", [60, 80, 100])
def test_every_figure_fits(rows: list[Row], width: int) -> None:
    shown = _shown(results_table(rows, width), width)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in shown
    first = next(line for line in lines if line.strip() and line.split()[0] == "dense")
    assert first.split() == ["dense", "28.10", "1.00x"]
    wanda = next(line for line in lines if "wanda" in line and "2:4" in line)
    assert wanda.split() == ["wanda", "2:4", "179.70", "6.40x", "50.0", "40.0"]


@pytest.mark.parametrize("width", [80, 100])
def test_two_models_two_corpora_and_seeds_fit(width: int) -> None:
    name = "organisation/a-model-with-a-very-long-name-1.5B"
    more = {"perplexity/wikitext2-raw": 99.5, "dense_perplexity/wikitext2-raw": 30.0}
    rows = [
        row
        for model in ("tiny", name)
        for row in (
            dense_row(model),
            *(
                cell_row("swiftprune", target, 1481.0, model=model, seed=seed, **more)
                for target in ("0.5", "2:4")
                for seed in (0, 1)
            ),
        )
    ]
    shown = _shown(results_table(rows, width), width)
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown
    assert shown.count("1481") == 8
    assert ("52.70x" in shown) == (width == 100)


def test_failures_are_red_and_told_below() -> None:
    rows = [dense_row(), failed_row("RuntimeError: [/red] no | memory\nat block 3")]
    table = results_table(rows)
    shown = _shown(table, 80)
    assert "failed" in shown
    told = errors_text(rows, 80)
    assert told is not None
    assert "RuntimeError: [/red] no | memory" in " ".join(told.plain.split())
    assert errors_text(rows[:1]) is None
    coloured = _shown(table, 80, force_terminal=True)
    assert "\x1b[31m" in coloured
    assert "\x1b[" not in shown


def test_plain_output_takes_ascii(rows: list[Row]) -> None:
    rows.append(cell_row("wanda", "0.9", math.inf))
    shown = _shown(results_table(rows), 80, encoding="ascii")
    assert "diverged" in shown


def test_no_rows_make_an_empty_table() -> None:
    assert "method" in _shown(results_table([]), 80)


def test_the_artifact_is_plain_json() -> None:
    rows = [
        dense_row(),
        cell_row("wanda", "0.5", math.inf, prune_seconds=1.23456789, sparsity=math.nan),
        failed_row("x" * 999),
    ]
    lines = results_artifact(rows)
    json.dumps(lines, allow_nan=False)
    assert len({tuple(line) for line in lines}) == 1
    assert lines[1]["perplexity/docs"] == "inf"
    assert lines[1]["sparsity"] == "nan"
    assert lines[1]["prune_seconds"] == 1.2346
    assert lines[0]["vs dense/docs"] == 1.0
    assert len(str(lines[2]["error"])) == 200


def test_timings_add_up() -> None:
    cells = [CellTiming("wanda 0.5", 40.0, 30.0, 72.0), CellTiming("wanda 2:4", 5.0, 30.0, 36.0)]
    timings = Timings({"load": 3.0, "statistics": 12.0}, cells, 132.0)
    assert timings.work == 120.0
    assert timings.overhead == 12.0
    assert timings.ratio == 1.1
    assert [cell.overhead for cell in cells] == [2.0, 1.0]
    shown = _shown(timings.table(), 80)
    assert max(map(len, shown.splitlines())) <= 80
    total = next(line for line in shown.splitlines() if "whole sweep" in line)
    assert total.split() == ["whole", "sweep", "45.0", "60.0", "12.0", "132.0"]
    assert "ratio 1.10" in shown
    assert "| **whole sweep** | **45.0** | **60.0** | **12.0** | **132.0** |" in timings.markdown()


def test_no_work_has_no_ratio() -> None:
    timings = Timings(total_wall=2.0)
    assert timings.ratio is None
    assert "ratio" not in timings.markdown()
