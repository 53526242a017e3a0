"""Results survive writing and reading, and never stand half written."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from configs.errors import ConfigurationError
from tasks.reporting.rows import Row, columns, read_results, write_results
from tasks.store import files

from .conftest import figures_in

_NUMBERS = ("inf", "-inf", "nan")
texts = st.text(',"\r\n|\\ \t\0;=aZ1é日𝄞\u2028\udc80', max_size=12)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | texts.filter(lambda text: text not in _NUMBERS)
)
tables = st.lists(
    st.dictionaries(
        st.sampled_from(["seed", "sparsity", "perplexity/a b", "peak_memory_bytes", "speed,x"]),
        scalars,
    ).flatmap(
        lambda figures: st.fixed_dictionaries(
            {"model": texts | st.sampled_from(_NUMBERS), "error": texts | st.none()}
        ).map(lambda named: named | figures)
    ),
    max_size=4,
)
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@unhurried
@given(tables)
@example([{"model": "inf", "perplexity/a": math.inf, "sparsity": -0.0, "error": 'a,"b"\r\nc'}])
def test_json_restores_rows_exactly(table: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_results(table, Path(folder))
        found = read_results(Path(folder))
    expected = [{name: row.get(name) for name in columns(table)} for row in table]
    assert [list(row) for row in found] == [list(row) for row in expected]
    # repr tells 1 from 1.0 and from True, and 0.0 from -0.0.
    assert repr(found) == repr(expected)


@unhurried
@given(tables)
def test_csv_holds_the_same_cells(table: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, _ = write_results(table, Path(folder))
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file, strict=True)
    assert header == columns(table)
    assert len(lines) == len(table)
    for line, row in zip(lines, table, strict=True):
        for name, cell in zip(header, line, strict=True):
            value = row.get(name)
            if value is None:
                assert cell == ""
            elif isinstance(value, bool):
                assert cell == ("true" if value else "false")
            elif isinstance(value, float):
                assert float(cell) == value
            else:
                text = str(value).encode("utf-8", "backslashreplace").decode()
                assert cell == text


def test_columns_follow_the_contract(rows: list[Row]) -> None:
    rows[1] |= {"zero_shot/piqa/acc": 0.7, "perplexity/c4": 50.0, "zero_shot/mean": 0.7}
    expected = (
        "model method target selection seed status error sparsity "
        "perplexity/docs perplexity/c4 zero_shot/mean "
        "dense_perplexity/docs dense_perplexity/c4 exempt_weights excluded_weights "
        "prune_seconds calibration_seconds "
        "learned departs training_tokens evaluate_seconds parameters nonzero_parameters "
        "peak_memory_bytes checkpoint mlflow_run_id fingerprint zero_shot/piqa/acc"
    )
    assert columns(rows, figures_in(rows)) == expected.split()


def test_json_is_strict_and_infinity_is_text(tmp_path: Path) -> None:
    write_results([{"perplexity/a": math.inf, "x": math.nan, "sparsity": -math.inf}], tmp_path)

    def refuse(token: str) -> None:
        pytest.fail(f"{token} is no JSON")

    text = (tmp_path / "results.json").read_text()
    (row,) = json.loads(text, parse_constant=refuse)
    assert (row["perplexity/a"], row["x"], row["sparsity"]) == ("inf", "nan", "-inf")
    assert (tmp_path / "results.csv").read_text().splitlines()[1] == (
        ",,,,,,,-inf,,,,,,,,,,,,,,,inf,nan"
    )
    (found,) = read_results(tmp_path)
    assert found["perplexity/a"] == math.inf
    assert isinstance(found["x"], float) and math.isnan(found["x"])


def test_no_rows_make_a_header_and_an_empty_list(tmp_path: Path) -> None:
    write_results([], tmp_path)
    assert read_results(tmp_path) == []
    assert (tmp_path / "results.csv").read_text() == ",".join(columns([])) + "\n"


@pytest.mark.parametrize(
    ("value", "error"), [([1], TypeError), (Path("x"), TypeError), ("inf", ValueError)]
)
def test_what_is_no_value_is_refused_and_changes_nothing(
    tmp_path: Path, value: object, error: type[Exception]
) -> None:
    write_results([{"model": "old"}], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    bad: dict = {"model": "new", "speed": value}
    with pytest.raises(error, match="'speed'"):
        write_results([bad], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_failure_while_writing_leaves_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    write_results([{"model": "old"}], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise OSError("disk is full")

    monkeypatch.setattr(*((files.os, "fsync") if broken == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OSError, match="disk is full"):
        write_results([{"model": "new"}], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_files_are_readable_by_whom_the_umask_lets(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    path, _ = write_results([], tmp_path)
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{}", "no list of rows"),
        (b"[1]", "no list of rows"),
        (b"[", ""),
        (b"\xff", ""),
        (b'[{"a": 1}]', "row 1 has no model, method, target, seed, status, error, checkpoint, "),
    ],
)
def test_another_file_is_refused_with_its_name_and_what_helps(
    tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "results.json").write_bytes(content)
    with pytest.raises(ConfigurationError, match=rf"results.json.*{told}.*Run the sweep again"):
        read_results(tmp_path)


def test_what_is_refused_in_writing_is_refused_in_reading(tmp_path: Path) -> None:
    _, path = write_results([{"model": "old"}], tmp_path)
    path.write_text(path.read_text().replace('"old"', '["old"]'))
    with pytest.raises(ConfigurationError, match="model of row 1 is no text, number or null"):
        read_results(tmp_path)
