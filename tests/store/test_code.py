"""Whose code makes an artifact."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from tasks.compression.checkpoint import _facts_alone
from tasks.pruning.wanda import Wanda
from tasks.store import code
from tasks.store.code import foreign_code
from tasks.store.steps import Step

NAME = "a_package_of_a_user"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "__init__.py").write_text("class Mine: pass\ndef make(work): return {}\n")
    (folder / "helper.py").write_text("SCALE = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module(NAME)
    del sys.modules[NAME]
    code._digest.cache_clear()


def test_another_packages_code_is_an_input_and_ours_is_not(package: ModuleType) -> None:
    step = Step(name="own", inputs={"x": 1}, produce=package.make)
    assert step.inputs == {"x": 1, "code": foreign_code(package.Mine)}
    assert Step(name="own", inputs={"x": 1}, produce=partial(package.make)) == step
    for made_by in (_facts_alone, Wanda, None):
        assert foreign_code(made_by) == ""
    assert Step(name="own", inputs={"x": 1}, produce=_facts_alone).inputs == {"x": 1}


def test_an_input_of_that_name_is_not_written_over(package: ModuleType) -> None:
    step = Step(name="own", inputs={"x": 1}, produce=package.make)
    assert replace(step, label="again") == step
    with pytest.raises(ValueError, match="an input code"):
        Step(name="own", inputs={"code": "python"}, produce=package.make)


def test_what_an_editor_leaves_is_no_code(package: ModuleType) -> None:
    before = foreign_code(package.make)
    code._digest.cache_clear()
    folder = Path(str(package.__file__)).parent
    (folder / ".#helper.py").symlink_to("me@host.1")
    (folder / "x.py").mkdir()
    assert foreign_code(package.make) == before


def test_any_file_of_it_matters(package: ModuleType) -> None:
    before = foreign_code(package.make)
    assert package.__file__
    Path(package.__file__).with_name("helper.py").write_text("SCALE = 2\n")
    assert foreign_code(package.make) == before, "what is imported stays as it is"
    code._digest.cache_clear()  # as in the next process
    assert foreign_code(package.make) != before
