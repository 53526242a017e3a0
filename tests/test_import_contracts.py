"""The import contracts of pyproject.toml bite: in a copy of the tree, each breach is refused."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = "rooms of tasks build on the rooms below them, and every room is placed"
ALGORITHMS = "algorithms of pruning and selection import torch and the standard library only"
LINT = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command()"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("tree")
    for name in ("flows", "tasks", "configs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def broken(tree: Path) -> list[str]:
    """The names of the contracts that do not hold there."""
    done = subprocess.run(
        [sys.executable, "-c", LINT, "--no-logo", "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "500"},
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.findall(r"^(.+) BROKEN", done.stdout, re.MULTILINE)
    assert "Contracts: " in done.stdout, done.stdout + done.stderr
    assert bool(done.returncode) == bool(found), done.stdout
    return found


def test_all_hold_as_the_tree_stands(tree: Path) -> None:
    assert broken(tree) == []


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("tasks/pruning/core/masks.py", "import tasks.runtime.memory", ROOMS),
        ("tasks/attic/__init__.py", "", ROOMS),
        ("tasks/store/store.py", "import tasks.models.sources", ROOMS),
        ("tasks/pruning/wanda.py", "import numpy", ALGORITHMS),
        ("tasks/selection/positions.py", "import numpy", ALGORITHMS),
        ("tasks/runtime/memory.py", "import flows.cell", "nothing below imports flows"),
        ("tasks/store/store.py", "import prefect", "only flows and tasks.steps import prefect"),
        ("flows/cell.py", "import mlflow", "only tasks.tracking imports mlflow"),
        (
            "tasks/reporting/rows.py",
            "import tasks.measures.perplexity",
            "reporting reads figures, never a measure",
        ),
        ("configs/errors.py", "import tasks.store.store", "configs imports the registries only"),
        ("flows/cell.py", "import safetensors", "flows only wires: no tensor, no file format"),
    ],
)
def test_a_breach_is_refused(tree: Path, file: str, line: str, contract: str) -> None:
    path = tree / file
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as out:
        out.write(f"\n{line}\n")
    try:
        assert contract in broken(tree)
    finally:
        if before is None:
            shutil.rmtree(path.parent)
        else:
            path.write_bytes(before)
