"""Agreement, zero-shot tasks, speed and size in tables; each absent where it was not measured."""

from __future__ import annotations

import json
import math

import pytest
from rich.console import Console
from rich.table import Table

from tasks.reporting.console import results_artifact, results_table
from tasks.reporting.markdown_measures import measures_markdown
from tasks.reporting.measures import (
    DECODE,
    HARDWARE,
    ZERO_SHOT_MEAN,
    on_cpu,
    speed_notes,
    speedup,
    standard_error,
    zero_shot_tasks,
)
from tasks.reporting.rows import Row, read_results, write_results
from tasks.reporting.text import format_bytes, format_figure

from .conftest import cell_row, dense_row, failed_row
from .realistic import large_sweep

SLOW = "On a CPU masked weights are not faster"


def _shown(rows: list[Row], width: int) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(results_table(rows, width))
    return console.export_text()


def _line(text: str, *starts: str) -> list[str]:
    """The cells of the first Markdown row that starts so."""
    start = "| " + " | ".join(starts) + " |"
    line = next(line for line in text.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_without_measures_nothing_is_said(rows: list[Row]) -> None:
    assert measures_markdown(rows) == []
    assert isinstance(results_table(rows, 200), Table)
    # A column that no row has a number in is as good as absent.
    empty = [row | {"kl/docs": None, DECODE: None, ZERO_SHOT_MEAN: None} for row in rows]
    assert measures_markdown(empty) == []
    assert _shown(empty, 100) == _shown(rows, 100)


def test_agreement_and_reconstruction_have_a_table(rows: list[Row]) -> None:
    rows[0] |= {"kl/docs": 0.0, "top1_agreement/docs": 1.0}
    rows[1] |= {"kl/docs": 0.01234, "top1_agreement/docs": 0.876, "reconstruction_error": 0.0456}
    heading, table, note = measures_markdown(rows)
    assert heading == "### Agreement with the dense model"
    assert _line(table, "method")[2:] == [
        "KL docs (nats/token)", "top-1 docs (%)", "reconstruction error",
    ]  # fmt: skip
    assert _line(table, "dense")[2:] == ["0", "100.0", ""]
    assert _line(table, "magnitude")[2:] == ["0.0123", "87.6", "0.0456"]
    assert len(table.splitlines()) == 4  # no row for cells without
    assert "as bad as a layer of zeros" in note


def test_zero_shot_has_the_main_metric_with_its_error() -> None:
    row = cell_row("wanda", "0.5", 60.0) | {
        "zero_shot/piqa/acc_norm": 0.7, "zero_shot/piqa/acc_norm_stderr": 0.03,
        "zero_shot/piqa/acc": 0.6, "zero_shot/piqa/acc_stderr": 0.04,
        "zero_shot/a/b/f1": 0.5, "zero_shot/mean": 0.55,
    }  # fmt: skip
    tasks = zero_shot_tasks([row])
    assert tasks == {"piqa": "zero_shot/piqa/acc", "a/b": "zero_shot/a/b/f1"}
    assert standard_error(row, "zero_shot/piqa/acc", tasks) == 0.04
    assert standard_error(row, ZERO_SHOT_MEAN, tasks) is None  # one task has none
    both = row | {"zero_shot/a/b/f1_stderr": 0.03}
    assert standard_error(both, ZERO_SHOT_MEAN, tasks) == pytest.approx(0.05 / 2)
    _, table, _ = measures_markdown([both])
    assert _line(table, "method")[2:] == ["**mean**", "piqa (acc)", "a/b (f1)"]
    assert _line(table, "wanda")[2:] == ["55.0 ± 2.5", "60.0 ± 4.0", "50.0 ± 3.0"]


def test_many_tasks_make_several_tables() -> None:
    rows = large_sweep(methods=("wanda",), tasks=[f"task{k}" for k in range(12)])
    text = "\n".join(measures_markdown(rows))
    headers = [line for line in text.splitlines() if "(acc)" in line]
    assert [line.count("(acc)") for line in headers] == [5, 6, 1]


def test_speed_is_compared_on_the_same_hardware_only() -> None:
    dense = dense_row() | {DECODE: 20.0, HARDWARE: "NVIDIA H100 80GB HBM3"}
    same = cell_row("wanda", "0.5", 60.0) | {DECODE: 30.0, HARDWARE: dense[HARDWARE]}
    other = cell_row("wanda", "0.7", 60.0) | {DECODE: 90.0, HARDWARE: "NVIDIA A100"}
    rows = [dense, same, other]
    assert [speedup(row, rows, DECODE) for row in rows] == [1.0, 1.5, None]
    _, table, note = measures_markdown(rows)
    assert _line(table, "wanda", "0.7")[2:] == ["90.0", "", "NVIDIA A100"]
    assert "Only figures of the same hardware are compared." in note
    assert SLOW not in note


@pytest.mark.parametrize(
    ("named", "device", "cpu"),
    [
        ("Intel(R) Xeon(R) Platinum 8481C, 2 threads", None, True),
        ("AMD EPYC 9B14", None, True),
        ("CPU beside an NVIDIA GPU", None, True),
        ("NVIDIA H100 80GB HBM3", None, False),
        ("NVIDIA GeForce RTX 4090", None, False),
        ("something unheard of", "cuda", False),
        ("something unheard of", "cpu", True),
    ],
)
def test_masks_are_not_faster_on_a_cpu(named: str, device: str | None, cpu: bool) -> None:
    row = dense_row() | {DECODE: 20.0, HARDWARE: named, "speed/device": device}
    assert on_cpu([row]) == cpu
    assert (SLOW in " ".join(speed_notes([row]))) == cpu
    assert (SLOW in "\n".join(measures_markdown([row]))) == cpu
    assert named in " ".join(speed_notes([row]))


def test_size_alone_has_a_table_without_notes() -> None:
    heading, table = measures_markdown([dense_row() | {"bytes_on_disk": 539 << 20}])
    assert heading == "### Speed and size"
    assert _line(table, "dense")[2:] == ["539 MiB"]


@pytest.mark.parametrize("width", [80, 100, 160])
def test_tables_split_rather_than_squeeze(width: int) -> None:
    models = ("tiny", "organisation/a-model-with-a-very-long-name-1.5B")
    rows = large_sweep(models=models, methods=("magnitude", "wanda"), seeds=(0, 1))
    rows.append(failed_row("boom"))
    shown = _shown(rows, width)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in shown
    for header in ("perplexity", "KL", "top-1 %", "0-shot", "decode"):
        assert header in shown
    # No more lines than the rows of each table, their headers and the wrapped name.
    assert len(lines) <= 2 * (len(rows) + 10)


def test_one_table_where_it_fits() -> None:
    rows = large_sweep(methods=("wanda",))
    for row in rows:
        for key in [key for key in row if key.startswith(("speed/", "zero_shot/", "bytes"))]:
            del row[key]
    table = results_table(rows, 100)
    assert isinstance(table, Table)
    assert "KL" in _shown(rows, 100)


def test_the_artifact_has_the_measures_that_there_are(rows: list[Row]) -> None:
    assert "zero_shot/mean" not in results_artifact(rows)[0]
    found = results_artifact([*large_sweep(methods=("magnitude",)), failed_row("x")])
    json.dumps(found, allow_nan=False)
    assert len({tuple(line) for line in found}) == 1
    for name in ("kl/docs", "top1_agreement/docs", "zero_shot/mean", DECODE, "bytes_on_disk"):
        assert isinstance(found[1][name], int | float)
        assert found[-1][name] is None


def test_results_keep_the_measures(tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    rows = [dense_row() | {"kl/docs": math.inf, "speed/hardware": "inf", "zero_shot/mean": 0.5}]
    write_results(rows, folder)
    (found,) = read_results(folder)
    assert (found["kl/docs"], found["speed/hardware"]) == (math.inf, "inf")


def test_figures_are_short() -> None:
    figures = (0.0, 0.00123, 0.52, 2.0, 12.34, 99.99, 1234.5, 3e7, math.inf)
    assert [format_figure(value) for value in figures] == [
        "0", "0.00123", "0.520", "2.00", "12.3", "100", "1234", "3e+07", "diverged",
    ]  # fmt: skip
    sizes = (512, 21.5 * 2**20, 1.25 * 2**30, 515 * 2**20)
    assert [format_bytes(size) for size in sizes] == ["512 B", "21.5 MiB", "1.25 GiB", "515 MiB"]
