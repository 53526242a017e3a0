"""``secateur gc`` beside a sweep: what the sweep has counted as cached stays."""

from __future__ import annotations

import errno
import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from configs.errors import ConfigurationError
from flows import cli
from flows.cell import _drop
from flows.commands import gc
from tasks.store import needs
from tasks.store.home import home as current_home
from tasks.store.needs import (
    needed_meanwhile,
    needs_settled,
    training_folder,
    training_place,
)
from tasks.store.steps import Step
from tasks.store.store import Store

STEP = Step(name="checkpoint", inputs={"x": 1})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path))
    store = Store(tmp_path)
    store.get_or_create(STEP, lambda folder: {"bytes": (folder / "a").write_text("a")})
    return store


def lists_needs(store: Store) -> bool:
    """What a sweep does as it begins: whether it counts the artifact as cached."""
    listing = store.root / "sweeps" / "demo" / "artifacts.json"
    listing.parent.mkdir(parents=True, exist_ok=True)
    with needs_settled():
        listing.write_text(json.dumps([STEP.place]))
    return store.find(STEP.place) is not None


def test_a_sweep_that_begins_while_gc_runs_waits_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[bool] = []
    sweep = threading.Thread(target=lambda: counted.append(lists_needs(store)))
    read = gc._needed

    def reads_and_is_late() -> set[str]:
        needed = read()
        sweep.start()
        sweep.join(1.0)  # as far as it comes
        return needed

    monkeypatch.setattr(gc, "_needed", reads_and_is_late)
    gc.collect_garbage(Console(quiet=True), dry_run=False)
    sweep.join()
    assert counted == [store.find(STEP.place) is not None]


def test_what_is_listed_stays(store: Store) -> None:
    assert lists_needs(store)
    gc.collect_garbage(Console(quiet=True), dry_run=False)
    assert store.find(STEP.place) is not None


@pytest.mark.parametrize("listing", [None, "{"])
def test_a_sweep_whose_list_is_gone_or_broken_stops_it(listing: str | None, store: Store) -> None:
    assert lists_needs(store)
    folder = store.root / "sweeps" / "demo"
    (folder / "config.yaml").write_text("name: demo")
    (folder / "artifacts.json").unlink()
    if listing is not None:
        (folder / "artifacts.json").write_text(listing)
    (store.root / "sweeps" / "exported-model").mkdir()
    with pytest.raises(ConfigurationError, match=r"demo.*nothing was removed"):
        gc.collect_garbage(Console(quiet=True), dry_run=False)
    assert store.find(STEP.place) is not None


def test_what_is_not_listed_goes(store: Store, capsys: Any) -> None:
    probe = store.root / "artifacts" / "probe.x"  # left by a kill
    probe.mkdir()
    gc.collect_garbage(Console(), dry_run=True)
    assert "would remove 1 folders" in capsys.readouterr().out
    assert store.find(STEP.place) is not None and probe.exists()
    gc.collect_garbage(Console(), dry_run=False)
    assert store.find(STEP.place) is None and not probe.exists()


def test_what_somebody_else_put_there_stays(store: Store, tmp_path: Path) -> None:
    precious = tmp_path / "elsewhere" / "precious"
    precious.parent.mkdir()
    precious.write_text("x")
    for room in ("artifacts/notes", "training", "tmp"):
        folder = store.root / room
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "file").write_text("x")
        (folder / "link").symlink_to(precious.parent)
    gc.collect_garbage(Console(quiet=True), dry_run=False)
    assert precious.exists()
    for room in ("artifacts/notes", "training", "tmp"):
        assert {path.name for path in (store.root / room).iterdir()} == {"file", "link"}


def test_what_a_process_needs_while_it_runs_stays_as_long(store: Store) -> None:
    with needed_meanwhile([STEP]):
        gc.collect_garbage(Console(quiet=True), dry_run=False)
        assert store.find(STEP.place) is not None
    assert list((store.root / "tmp").iterdir()) == []
    gc.collect_garbage(Console(quiet=True), dry_run=False)
    assert store.find(STEP.place) is None


def test_a_list_that_a_kill_has_left_keeps_nothing_for_long(store: Store) -> None:
    left = store.root / "tmp" / "needs0123456789abcdef" / "artifacts.json"
    left.parent.mkdir(parents=True)
    left.write_text(json.dumps([STEP.place]))
    gc.collect_garbage(Console(quiet=True), dry_run=False)
    assert not left.exists()
    gc.collect_garbage(Console(quiet=True), dry_run=False)
    assert store.find(STEP.place) is None


def test_what_an_interrupted_training_goes_on_from_stays(store: Store) -> None:
    """Whatever trains: a listed step's own folder, and one whose artifact is not kept."""
    other = Step(name="checkpoint", inputs={"x": 2})
    for step in (STEP, other, Step(name="checkpoint", inputs={"x": 3})):
        training_folder(store.root, step).mkdir(parents=True)
    listing = store.root / "sweeps" / "demo" / "artifacts.json"
    listing.parent.mkdir(parents=True)
    listing.write_text(json.dumps([STEP.place, training_place(other)]))
    gc.collect_garbage(Console(quiet=True), dry_run=False)
    assert {path.name for path in (store.root / "training").iterdir()} == {
        STEP.fingerprint,
        other.fingerprint,
    }


def test_a_selection_that_ends_while_lists_are_read_needs_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Gone(type(store.root)):  # type: ignore[misc]
        """A folder whose files vanish as soon as they are listed."""

        def glob(self, pattern: str) -> list[Path]:
            found = list(Path(self).glob(pattern))
            for path in found:
                if pattern.startswith("needs"):
                    path.unlink()
            return found

    with needed_meanwhile([STEP]):
        monkeypatch.setattr(needs, "home", lambda: Gone(store.root))
        assert needs.needed_artifacts() == set()


def test_a_checkpoint_stays_where_it_is_not_known_who_needs_it(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tidied up after its cell was computed, which must not fail then."""
    stray = store.root / "sweeps" / "stray"
    stray.mkdir(parents=True)
    (stray / "config.yaml").write_text("name: stray")
    _drop(STEP, store, "demo")
    assert store.find(STEP.place) is not None
    assert "stray" in caplog.text
    shutil.rmtree(stray)
    selection = store.root / "tmp" / "needs0123456789abcdef"
    (selection / "artifacts.json").mkdir(parents=True)
    _drop(STEP, store, "demo")
    assert store.find(STEP.place) is not None
    assert str(selection) in caplog.text
    shutil.rmtree(selection)
    _drop(STEP, store, "demo")
    assert store.find(STEP.place) is None


@pytest.mark.parametrize("home", ["~nobody-of-this-name/x", "file", "file/home"])
def test_a_home_that_is_none_is_named(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECATEUR_HOME", home)
    monkeypatch.setattr(sys, "argv", ["secateur", "gc"])
    assert cli.status() == 2
    assert "SECATEUR_HOME" in capsys.readouterr().err


def test_a_home_that_cannot_be_reached_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For root, too, who may enter every folder."""

    def exists(_: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "closed" / "home"))
    with monkeypatch.context() as closed, pytest.raises(ConfigurationError, match="SECATEUR_HOME"):
        closed.setattr(Path, "exists", exists)
        current_home()


def test_from_a_working_folder_that_is_gone_another_home_is_tidied_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", ["secateur", "gc"])
    assert cli.status() == 0


def test_a_working_folder_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(sys, "argv", ["secateur", "plan", "smoke"])
    assert cli.status() == 2
    assert "working folder is gone" in capsys.readouterr().err
