"""``secateur diff`` on sweeps that were run: one input changed at a time, and another machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Home, kill_group

pytestmark = pytest.mark.slow

SMALL = ("--set", "methods=[wanda]", "--set", "targets=[0.5]")
CHANGED = {
    "windows": "evaluation.perplexity[0].sequence_length=32",
    "samples": "calibration.samples=4",
    "bfloat": "dtype=bfloat16",
}


@pytest.fixture(scope="module")
def home(make_home: Callable[..., Home]) -> Home:
    """A home with a sweep, and three that differ from it in one field each."""
    made = make_home()
    for name, setting in {"base": "seeds=[0]", **CHANGED}.items():
        status, output = made.run("run", "sweep.yaml", *SMALL, "--set", f"name={name}",
                                  "--set", setting)  # fmt: skip
        assert status == 0, output
    return made


def diff(home: Home, *arguments: str) -> dict[str, Any]:
    """What ``secateur diff --json`` says; a warning before it would break its reader."""
    process = home.start("diff", *arguments, "--json")
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        kill_group(process)
    assert process.returncode == 0, output
    return json.loads(output)


def by_kind(found: dict[str, Any], kind: str) -> list[str]:
    return [entry["key"] for entry in found["differences"] if entry["kind"] == kind]


def run_id(home: Home, sweep: str) -> str:
    return next(row["mlflow_run_id"] for row in home.rows(sweep) if row["method"] == "wanda")


@pytest.mark.parametrize(
    ("sweep", "key", "values", "consequences"),
    [
        (
            "windows",
            "evaluation/tokens/length",
            ("64", "32"),
            {"evaluation/tokens_read", "evaluation/tokens/content"},
        ),
        (
            "samples",
            "calibration/count",
            ("2", "4"),
            {"calibration/content"},
        ),
        ("bfloat", "dtype", ("float32", "bfloat16"), set()),
    ],
)
@pytest.mark.parametrize("through", ["sweep", "mlflow"])
def test_the_one_changed_input_is_named_first(
    home: Home,
    sweep: str,
    key: str,
    values: tuple[str, str],
    consequences: set[str],
    through: str,
) -> None:
    there = f"{sweep}:wanda@0.5" if through == "sweep" else run_id(home, sweep)
    found = diff(home, "base:wanda@0.5", there)
    first = found["differences"][0]
    assert (first["key"], first["a"], first["b"]) == (key, *values)
    assert by_kind(found, "input") == [key]
    # Whether another share of ties was cut is the method's affair.
    assert set(by_kind(found, "consequence")) - {"sparsity"} == consequences
    assert set(by_kind(found, "environment")) <= {
        "environment/evaluated_on",
        "environment/pruned_on",
        "environment/secateur",  # where somebody edits or commits while the tests run
    }
    assert found["unknown"] == []
    assert found["verdict"][0].startswith("One input differs")
    rows = [next(r for r in home.rows(s) if r["method"] == "wanda") for s in ("base", sweep)]
    assert [found["a"]["value"], found["b"]["value"]] == [row["perplexity/docs"] for row in rows]
    assert found["ratio"] == found["b"]["value"] / found["a"]["value"] != 1


def test_a_cell_is_its_own_run_in_mlflow(home: Home) -> None:
    for method in ("wanda@0.5", "dense"):
        run = next(r for r in home.rows("base") if r["method"] == method.partition("@")[0])
        found = diff(home, f"base:{method}", str(run["mlflow_run_id"]))
        assert found["differences"] == []
        assert found["unknown"] == []
        assert "Nothing differs" in found["verdict"][0]


def test_everything_compared_is_recorded(home: Home) -> None:
    same = set(diff(home, "base:wanda", "base:wanda")["same"])
    assert {
        "model", "evaluation text", "evaluation window length",
        "evaluation windows", "predicted tokens", "evaluation tokenizer", "evaluation BOS",
        "evaluation token ids",
        "target", "sparsity achieved", "layers counted", "weights counted", "method",
        "calibration text", "calibration windows", "calibration window length",
        "calibration seed", "seed", "dtype", "torch", "transformers",
        "processor", "threads", "secateur",
    } <= same  # fmt: skip


@pytest.fixture
def elsewhere(home: Home, tmp_path: Path) -> Path:
    """The sweep's folder as another machine would have written it, with another environment."""
    copy = tmp_path / "outputs"
    shutil.copytree(home.path / "sweeps" / "base", copy / "sweeps" / "base")
    path = copy / "sweeps" / "base" / "inputs.json"
    inputs = json.loads(path.read_text())
    computed = [step["facts"] for step in inputs["steps"].values() if step["facts"]]
    assert computed
    for facts in computed:
        facts["environment"] |= {"torch": "2.6.0", "processor": "Another 9000"}
        facts["written"] = "2030-01-01T00:00:00+00:00"
    path.write_text(json.dumps(inputs))
    return copy


@pytest.mark.parametrize("named", ["home", "path"])
def test_another_machine_differs_in_its_environment_alone(
    home: Home, elsewhere: Path, named: str
) -> None:
    there = ["base:wanda@0.5", "--home", str(elsewhere)]
    if named == "path":
        there = [f"{elsewhere}/sweeps/base:wanda@0.5"]
    found = diff(home, "base:wanda@0.5", *there)
    assert {entry["kind"] for entry in found["differences"]} == {"environment"}
    assert by_kind(found, "environment") == [
        "environment/torch",
        "environment/processor",
        "environment/evaluated_on",
        "environment/pruned_on",
    ]
    assert found["verdict"] == [
        "Nothing but the environment differs: torch, processor.",
        "The figure is the same, bit for bit.",
    ]


def test_a_sweep_s_folder_alone_is_enough(home: Home, tmp_path: Path) -> None:
    folder = tmp_path / "from-a-mail"
    shutil.copytree(home.path / "sweeps" / "base", folder)
    found = diff(home, "base:wanda@0.5", f"{folder}:wanda@0.5")
    assert found["differences"] == []


def test_the_terminal_tells_it(home: Home) -> None:
    status, output = home.run("diff", "base:wanda@0.5", "samples:wanda@0.5", COLUMNS="80")
    assert status == 0
    assert "1. calibration windows" in output
    assert "What follows from them" in output
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("references", "parts"),
    [
        (("base:wanda@0.6", "base:dense"), ("A:", "no such result", "base:wanda@0.5")),
        (("base:dense", "base"), ("B:", "2 that fit", "base:dense, base:wanda@0.5")),
        (("base:dense", "bass:dense"), ("B:", "'bass'", "base, bfloat, samples, windows")),
        (("base:dense", "/nowhere/base:dense"), ("B:", "no results.json")),
        (("f" * 32, "base:dense"), ("A:", "has no run")),
        (("base:dense", "base:dense", "--metric", "x"), ("--metric", "perplexity/docs")),
        (("base:dense", "base:dense", "--home", "/nowhere"), ("--home", "/nowhere")),
    ],
)
def test_a_wrong_reference_ends_with_status_2(
    home: Home, references: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    before = sorted(home.path.rglob("*.db"))
    status, output = home.run("diff", *references)
    assert status == 2, output
    assert "Traceback" not in output
    for part in parts:
        assert part in output
    assert sorted(home.path.rglob("*.db")) == before


def test_a_sweep_s_run_is_refused_with_its_rows(home: Home) -> None:
    parent = home.mlflow("select run_uuid from tags where key='secateur.kind' and value='sweep'")
    status, output = home.run("diff", parent[0][0], "base:dense")
    assert status == 2
    assert "run of a sweep" in output
    assert "wanda 0.5" in output


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "secateur report old"), ('{"version": 1, "rows": {}}', "run the sweep old again")],
)
def test_results_without_inputs_that_can_be_read_say_what_to_do(
    home: Home, tmp_path: Path, text: str, said: str
) -> None:
    folder = tmp_path / "old"
    shutil.copytree(home.path / "sweeps" / "base", folder)
    (folder / "inputs.json").write_text(text)
    status, output = home.run("diff", f"{folder}:dense", "base:dense")
    assert status == 2
    assert said in " ".join(output.split())


def test_the_report_command_writes_the_inputs_again(home: Home) -> None:
    path = home.path / "sweeps" / "base" / "inputs.json"
    before = path.read_text()
    path.unlink()
    status, output = home.run("report", "base")
    assert status == 0, output
    assert path.read_text() == before
