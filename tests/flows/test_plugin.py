"""A package with a method and a measure, installed into an environment of its own, without a change
to this repository."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path(__file__).parents[1] / "support" / "plugin"
SWEEP = """
name: demo
models: [tiny-random]
dtype: float32
calibration: {corpus: {source: python-docs}, samples: 2, sequence_length: 64}
methods: [magnitude, random_mask]
options: {random_mask: {scale: 1.5}}
targets: ["0.3", "0.6"]
evaluation:
  perplexity:
    - {name: docs, corpus: {source: python-docs}, sequence_length: 64, windows: 2}
  kept_norm: true
"""
BUILD = "from hatchling.build import build_wheel; build_wheel('dist')"

pytestmark = pytest.mark.slow


def said(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the package, which reads all else from this one's."""
    folder = tmp_path_factory.mktemp("installed")
    source = Path(shutil.copytree(PLUGIN, folder / "source"))
    said(sys.executable, "-c", BUILD, cwd=source)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = (source / "dist").glob("*.whl")
    said(python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel, cwd=folder)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(said(python, "-c", where, cwd=folder).strip())
    here = sysconfig.get_path("purelib")
    (packages / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return python


def test_the_commands_show_it(python: Path, tmp_path: Path) -> None:
    methods = said(python, "-m", "flows.cli", "methods", cwd=tmp_path)
    assert "random_mask  Random weights go; needs no data." in methods
    assert "options.random_mask.scale = 1.0  [float, > 0, <= 2]" in methods
    measures = said(python, "-m", "flows.cli", "measures", cwd=tmp_path)
    assert "kept_norm  share of the layers' Frobenius norm that pruning left" in measures
    assert "evaluation.kept_norm = true" in measures
    assert measures.index("perplexity/<name>") < measures.index("kept_norm")


def test_the_schema_has_it(python: Path, tmp_path: Path) -> None:
    ask = "import json, configs.schema as s; print(json.dumps(s.SweepConfig.model_json_schema()))"
    schema = json.loads(said(python, "-c", ask, cwd=tmp_path))
    assert "random_mask" in json.dumps(schema["properties"]["methods"])
    option = schema["$defs"]["random_mask_options"]["properties"]["scale"]
    assert option["description"] == "Weights kept are multiplied by it."
    field = schema["$defs"]["Evaluation"]["properties"]["kept_norm"]
    assert (field["type"], field["default"]) == ("boolean", True)
    assert field["description"].startswith("Compare the norm of the layers'")


def test_the_measures_contract_holds(python: Path) -> None:
    contract = Path(__file__).parents[1] / "measures" / "test_contract.py"
    options = ("-q", "-k", "kept_norm and not processes", "-p", "no:cacheprovider")
    said(python, "-m", "pytest", *options, contract, cwd=contract.parents[2])


def test_its_code_is_part_of_what_it_makes(python: Path, tmp_path: Path) -> None:
    """Its author may forget to raise a version: an edited file is computed anew."""
    ask = (
        "from configs.yaml_file import load; from tasks.steps.session import session\n"
        "plan = session().plan(load('sweep.yaml'))\n"
        "kept = [s for r in plan.cells for s in r.measured['kept_norm'].values()]\n"
        "named = [(c.name, c.checkpoint.fingerprint) for c in plan.cells]\n"
        "print([(*n, s.fingerprint) for n, s in zip(named, kept)])"
    )
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    where = "import secateur_example as e; print(e.__path__[0])"
    folder = Path(said(python, "-c", where, cwd=tmp_path).strip())
    first = ast.literal_eval(said(python, "-c", ask, cwd=tmp_path))
    edited = folder / "helper.py"
    edited.write_text("SCALE = 2\n")
    try:
        second = ast.literal_eval(said(python, "-c", ask, cwd=tmp_path))
    finally:
        edited.unlink()
    assert ast.literal_eval(said(python, "-c", ask, cwd=tmp_path)) == first
    for before, after in zip(first, second, strict=True):
        name = before[0]
        assert (before[1] == after[1]) is (name == "magnitude"), "the method"
        assert before[2] != after[2], "the measure"


def test_a_sweep_shows_it_everywhere(
    python: Path, make_home: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(python))
    home = make_home()
    home.sweep_file.write_text(SWEEP)
    status, output = home.run("run", "sweep.yaml")
    assert status == 0, output
    assert "random_mask" in output
    shares = {(r["method"], r["target"]): r.get("kept_norm") for r in home.rows()}
    assert shares.pop(("dense", "")) is None
    assert len(shares) == 4
    # Of random weights so many squares are left as weights are, of the largest more.
    for target, left in (("0.3", 0.7), ("0.6", 0.4)):
        assert shares["random_mask", target] == pytest.approx(1.5 * left**0.5, rel=0.02)
        assert 1 > shares["magnitude", target] > left**0.5
    folder = home.path / "sweeps" / "demo"
    for name in ("report.md", "report.html"):
        assert "kept norm" in (folder / name).read_text().lower()
    assert list((folder / "plots").glob("*kept*norm*.png"))
    logged = home.mlflow("select value from metrics where key = 'kept_norm'")
    # Curves hold the dense model's as well, which is 1 by definition.
    told = {round(value, 6) for (value,) in logged} - {1.0}
    assert told == {round(v, 6) for v in shares.values()}
