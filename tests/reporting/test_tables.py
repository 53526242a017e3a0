"""Tables fit a terminal, show every figure, mark the best, and never trip over an error's text."""

from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console, RenderableType

from tasks.measures.registry import figures_of
from tasks.reporting.rows import Row
from tasks.reporting.tables import errors_text, results_artifact, results_table
from tasks.reporting.tables.markdown import table_markdown
from tasks.reporting.tables.table import DEPARTS, results_tables
from tasks.reporting.text import (
    format_bytes,
    format_count,
    format_number,
    format_precise,
    with_error,
)
from tasks.reporting.timings import CellTiming, Timings

from .conftest import cell_row, dense_row, failed_row, figures_in
from .realistic import large_sweep

DECODE, HARDWARE = "speed/decode_tokens_per_second", "speed/hardware"
LEARNED = {"learned": "weights", "training_tokens": 51_200}


def _shown(table: RenderableType, width: int, encoding: str = "utf-8", **more: bool) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="\n")
    console = Console(file=file, width=width, **more)  # type: ignore[arg-type]
    console.print(table)
    file.flush()
    return raw.getvalue().decode(encoding)


def _terminal(rows: list[Row], width: int = 80, *, colours: bool = False) -> str:
    table = results_table(rows, figures_in(rows), width)
    return _shown(table, width, force_terminal=colours)


def _markdown(rows: list[Row]) -> dict[str, str]:
    return {table.title: table_markdown(table) for table in results_tables(rows, figures_in(rows))}


def _cells(table: str, *starts: str) -> list[str]:
    """The cells, but the names, of the first Markdown row that starts so."""
    start = "| " + " | ".join(starts) + " |"
    line = next(line for line in table.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.strip("|").split("|")][2:]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_first_table_has_five_columns(rows: list[Row], width: int) -> None:
    shown = _terminal(rows, width)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in shown
    first = next(line for line in lines if line.strip() and line.split()[0] == "dense")
    assert first.split() == ["dense", "28.10", "1.00"]
    wanda = next(line for line in lines if "wanda" in line and "2:4" in line)
    assert wanda.split() == ["wanda", "2:4", "179.70*", "6.40", "50.0"]
    assert "195.00*" not in shown and "* the best of its target" in shown


@pytest.mark.parametrize("width", [80, 100, 160])
def test_tables_split_rather_than_squeeze(width: int) -> None:
    models = ("tiny", "organisation/a-model-with-a-very-long-name-1.5B")
    methods = ("magnitude", "policy_gradient", "a_method_of_twenty_eight_signs")
    rows = large_sweep(models=models, methods=methods[:2], seeds=(0, 1))
    more = {"perplexity/wikitext2-raw": 99.5, "dense_perplexity/wikitext2-raw": 30.0} | LEARNED
    rows += [cell_row(methods[2], "0.5", 60.0, model=models[1], **more), failed_row("boom")]
    shown = _terminal(rows, width)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in shown
    for word in (*methods, models[1].partition("/")[2], "wikitext2-raw", "weights,", "failed"):
        assert word in shown
    for heading in ("perplexity", "KL", "top-1", "zero-shot", "decode", "memory"):
        assert heading in shown


def test_failures_are_red_and_told_below() -> None:
    rows = [dense_row(), failed_row("RuntimeError: [/red] no | memory\nat block 3")]
    assert "failed" in _terminal(rows)
    told = errors_text(rows, 80)
    assert told is not None
    assert "RuntimeError: [/red] no | memory" in " ".join(told.plain.split())
    assert errors_text(rows[:1]) is None
    assert "\x1b[31m" in _terminal(rows, colours=True)
    assert "\x1b[" not in _terminal(rows)


def test_plain_output_takes_ascii(rows: list[Row]) -> None:
    rows.append(cell_row("wanda", "0.9", math.inf) | {"zero_shot/mean": 0.5})
    rows[-1]["zero_shot/mean_stderr"] = 0.02
    shown = _shown(results_table(rows, figures_in(rows), 80), 80, encoding="ascii")
    assert "diverged" in shown and "50.0 +- 2.0" in shown


def test_no_rows_make_an_empty_table() -> None:
    assert "method" in _terminal([])


def test_what_was_not_measured_has_no_table(rows: list[Row]) -> None:
    assert list(_markdown(rows)) == ["Results", "What pruning took"]
    # A column that no row has a number in is as good as absent.
    empty = [row | {"kl/docs": None, DECODE: None, "zero_shot/mean": None} for row in rows]
    assert _markdown(empty) == _markdown(rows)


def test_each_group_of_figures_has_a_table(rows: list[Row]) -> None:
    rows[0] |= {"kl/docs": 0.0, "top1_agreement/docs": 1.0}
    rows[1] |= {"kl/docs": 0.01234, "top1_agreement/docs": 0.876, "reconstruction_error": 0.0456}
    table = _markdown(rows)["Agreement with the dense model"]
    assert _cells(table, "method") == ["KL (nats/token)", "top-1 (%)", "layer error"]
    assert _cells(table, "dense") == ["0", "100.0", ""]
    assert _cells(table, "magnitude") == ["0.0123", "87.6", "0.0456"]
    assert len(table.splitlines()) == 4  # no row for cells without


@pytest.mark.parametrize(("zeros", "shown"), [(0.4987, "49.9"), (0.0, ""), (None, "")])
def test_zeros_of_the_dense_model_are_shown_where_it_has_any(
    rows: list[Row], zeros: float | None, shown: str
) -> None:
    rows[0] |= {"sparsity": zeros}
    assert _cells(_markdown(rows)["Results"], "dense")[-1] == shown


def test_the_best_of_each_target_is_bold() -> None:
    rows = large_sweep(methods=("magnitude", "wanda", "sparsegpt"), tasks=())
    tables = _markdown(rows)
    for title, column, heading, choose in (
        ("Results", "perplexity/docs", "perplexity", min),
        ("Agreement with the dense model", "kl/docs", "KL (nats/token)", min),
        ("Agreement with the dense model", "top1_agreement/docs", "top-1 (%)", max),
    ):
        mine = [row for row in rows if row["target"] == "0.4" and column in row]
        winner = choose(mine, key=lambda row: float(str(row[column])))
        place = _cells(tables[title], "method").index(heading)
        for row in mine:
            cell = _cells(tables[title], str(row["method"]), "0.4")[place]
            assert cell.startswith("**") == (row is winner)
    assert "**diverged**" not in tables["Results"]
    assert not any("**" in text for text in _cells(tables["What pruning took"], "magnitude")[:2])


def test_standard_errors_stand_beside_their_figures() -> None:
    row = cell_row("wanda", "0.5", 60.0) | {
        "zero_shot/piqa/acc": 0.7, "zero_shot/piqa/acc_stderr": 0.03,
        "zero_shot/a/b/acc": 0.5, "zero_shot/mean": 0.55,
    }  # fmt: skip
    tables = _markdown([row])
    assert _cells(tables["Zero-shot tasks"], "wanda") == ["55.0", "70.0 ± 3.0", "50.0"]
    assert _cells(tables["Results"], "wanda") == ["60.00", "2.14", "55.0", "50.0"]


def test_an_error_has_as_many_digits_as_its_figure() -> None:
    (slots,) = figures_of(["slot_f1/covid"])
    assert with_error(slots, 0.87561, 0.0214) == "0.876 ± 0.021"
    (perplexity,) = figures_of(["perplexity/docs"])
    assert with_error(perplexity, 28.123, 0.0524) == "28.12 ± 0.05"
    assert with_error(perplexity, 28.123, 0.0024) == "28.12 ± 0.002"


def test_speed_on_other_hardware_has_no_ratio_and_no_mark() -> None:
    rows = [dense_row() | {DECODE: 20.0, HARDWARE: "a"}]
    for method, speed, place in (
        ("wanda", 30.0, "a"),
        ("ast", 20.0, "a"),
        ("magnitude", 90.0, "b"),
    ):
        rows.append(cell_row(method, "0.5", 60.0) | {DECODE: speed, HARDWARE: place})
    table = _markdown(rows)["Speed"]
    assert _cells(table, "wanda") == ["**30.0**", "1.50", "a"]
    assert _cells(table, "magnitude") == ["90.0", "", "b"]


def test_tables_have_the_column_only_when_a_method_learned(rows: list[Row]) -> None:
    assert "learned" not in _terminal(rows)
    rows.append(cell_row("ast", "2:4", 15.0, **LEARNED))
    assert "weights, 51.2k" in _terminal(rows)
    table = _markdown(rows)["What pruning took"]
    assert "weights, 51.2k" in _cells(table, "ast")
    assert "the whole model was retrained" in table


def test_methods_that_depart_from_their_paper_are_marked(rows: list[Row]) -> None:
    assert DEPARTS not in _terminal(rows)
    rows.append(cell_row("mine", "2:4", 15.0, departs="criterion activation"))
    assert f"{DEPARTS} departs from its paper" in _terminal(rows)
    table = _markdown(rows)["Results"]
    assert f"| mine {DEPARTS} |" in table
    assert f"wanda {DEPARTS}" not in table
    assert "*mine*: criterion activation" in table


def test_the_artifact_is_plain_json() -> None:
    rows = [
        dense_row(),
        cell_row("ast", "0.5", math.inf, prune_seconds=1.23456789, sparsity=math.nan, **LEARNED),
        failed_row("x" * 999),
    ]
    lines = results_artifact(rows, figures_in(rows))
    json.dumps(lines, allow_nan=False)
    assert len({tuple(line) for line in lines}) == 1
    assert lines[1]["perplexity/docs"] == "inf"
    assert (lines[1]["sparsity"], lines[1]["prune_seconds"]) == ("nan", 1.2346)
    assert lines[0]["perplexity/docs × dense"] == 1.0
    assert lines[1]["learned"] == "weights, 51.2k tokens"
    assert len(str(lines[2]["error"])) == 200


def test_the_artifact_has_the_measures_that_there_are(rows: list[Row]) -> None:
    assert "zero_shot/mean" not in results_artifact(rows, figures_in(rows))[0]
    rows = [*large_sweep(methods=("magnitude",)), failed_row("x")]
    found = results_artifact(rows, figures_in(rows))
    json.dumps(found, allow_nan=False)
    for name in ("kl/docs", "top1_agreement/docs", "zero_shot/mean", DECODE, "bytes_on_disk"):
        assert isinstance(found[1][name], int | float)
        assert found[-1][name] is None


def test_timings_add_up() -> None:
    cells = [CellTiming("wanda 0.5", 40.0, 30.0, 72.0), CellTiming("wanda 2:4", 5.0, 30.0, 36.0)]
    timings = Timings({"load": 3.0, "statistics": 12.0}, cells, 132.0)
    assert (timings.work, timings.overhead, timings.ratio) == (120.0, 12.0, 1.1)
    assert [cell.overhead for cell in cells] == [2.0, 1.0]
    shown = _shown(timings.table(), 80)
    assert max(map(len, shown.splitlines())) <= 80
    total = next(line for line in shown.splitlines() if "whole sweep" in line)
    assert total.split() == ["whole", "sweep", "45.0", "60.0", "12.0", "132.0"]
    assert "ratio 1.10" in shown
    assert "| whole sweep | 45.0 | 60.0 | 12.0 | 132.0 |" in timings.markdown()
    empty = Timings(total_wall=2.0)
    assert empty.ratio is None and "ratio" not in empty.markdown()


def test_figures_are_short() -> None:
    figures = (0.0, 0.00123, 0.52, 2.0, 12.34, 99.99, 1234.5, 3e7, math.inf)
    assert [format_number(value) for value in figures] == [
        "0", "0.00123", "0.520", "2.00", "12.3", "100", "1234", "3e+07", "diverged",
    ]  # fmt: skip
    sizes = (512, 21.5 * 2**20, 1.25 * 2**30, 515 * 2**20)
    assert [format_bytes(size) for size in sizes] == ["512 B", "21.5 MiB", "1.25 GiB", "515 MiB"]
    precise = (0.9541, 1.0, 28.123, 1481.4, 3.2e7, math.inf)
    assert [format_precise(value) for value in precise] == [
        "0.954", "1.000", "28.12", "1481", "3.2e+07", "diverged",
    ]  # fmt: skip
    counts = (512, 51_200, 3e6, 5.24e9, 0)
    assert [format_count(count) for count in counts] == ["512", "51.2k", "3M", "5.24G", "0"]


def test_seeds_are_told_as_a_mean_and_its_standard_error() -> None:
    rows = [dense_row()]
    for seed, (wanda, lucky) in enumerate([(60.0, 59.0), (63.0, 70.0), (66.0, math.inf)]):
        rows += [
            cell_row("wanda", "0.5", wanda, seed=seed),
            cell_row("swiftprune", "0.5", lucky, seed=seed),
            cell_row("magnitude", "0.5", 90.0, seed=seed),
            cell_row("ast", "0.5", 14.2 + 0.001 * seed, seed=seed),
        ]
    rows.append(cell_row("ast", "2:4", 50.0))
    told = _markdown(rows)["Over the seeds"]
    assert _cells(told, "wanda", "0.5") == ["3", "63.00 ± 1.73"]  # stdev 3, by √3
    assert _cells(told, "swiftprune", "0.5") == ["3", "diverged: 1 of 3"]
    assert _cells(told, "magnitude", "0.5") == ["3", "90.00"], "no randomness: nothing to tell"
    assert _cells(told, "ast", "0.5")[1] == "**14.20 ± 0.0006**", "never ± 0.00"
    assert "2:4" not in told and "dense" not in told
    assert "Over the seeds" not in _markdown(rows[:2])


def test_of_several_seeds_the_mean_is_marked_and_no_single_one() -> None:
    values = {"wanda": (60.0, 64.0), "magnitude": (90.0, 91.0)}
    rows = [dense_row()] + [
        cell_row(method, "0.5", value, seed=seed, **{"kl/docs": value / 100})
        for method, found in values.items()
        for seed, value in enumerate(found)
    ]
    marked = {title for title, table in _markdown(rows).items() if "**" in table}
    assert marked == {"Over the seeds"}
    assert "* the best of its target, by the mean of its seeds" in _terminal(rows)
    single = [row for row in rows if row.get("seed") != 1]
    assert "* the best of its target\n" in _terminal(single)


def test_what_lost_its_seeds_takes_no_mark_from_the_others() -> None:
    rows = [
        dense_row(),
        *(cell_row("wanda", "0.5", 60.0 + seed, seed=seed) for seed in range(2)),
        *(cell_row("magnitude", "0.5", 90.0 + seed, seed=seed) for seed in range(2)),
        cell_row("sketched_obs", "0.5", 50.0),
        cell_row("sketched_obs", "0.5", None, seed=1, status="failed"),
    ]
    told = _markdown(rows)["Over the seeds"]
    assert _cells(told, "wanda", "0.5")[1].startswith("**60.50")


def test_the_note_on_seeds_names_the_figures_with_an_error_of_their_own() -> None:
    accuracy = {"zero_shot/mean": 0.5, "zero_shot/mean_stderr": 0.04}
    rows = [cell_row("wanda", "0.5", 60.0, seed=seed) for seed in range(2)]
    assert "test set" not in _markdown(rows)["Over the seeds"]
    told = _markdown([row | accuracy for row in rows])["Over the seeds"]
    assert _cells(told, "wanda", "0.5") == ["2", "60.00", "50.0 ± 4.0"]
    assert "The ± of zero-shot holds the error of its test set too" in told


def test_a_mean_of_the_seeds_that_are_left_is_no_best_one() -> None:
    rows = [dense_row()]
    for seed in range(3):
        rows.append(cell_row("wanda", "0.5", 60.0 + seed, seed=seed))
        rows.append(cell_row("magnitude", "0.5", 90.0 + seed, seed=seed))
    rows += [cell_row("swiftprune", "0.5", 50.0 + seed, seed=seed) for seed in range(2)]
    rows.append(cell_row("swiftprune", "0.5", None, seed=2, status="failed"))
    told = _markdown(rows)["Over the seeds"]
    assert _cells(told, "swiftprune", "0.5") == ["2 of 3", "50.50 ± 0.50"]
    assert _cells(told, "wanda", "0.5") == ["3", "**61.00 ± 0.58**"]
    assert "Where seeds failed, the mean is of the others, and is never the best" in told
    assert "Where seeds failed" not in _markdown(rows[:-3])["Over the seeds"]
