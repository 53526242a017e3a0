"""Artifacts: whole or not there, verified, computed once by however many processes."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from configs.errors import ConfigurationError
from tasks.store import manifest
from tasks.store.steps import Step, fingerprint
from tasks.store.store import StorageFullError, Store

STEP = Step(name="demo", inputs={"x": 2})


def write(folder: Path) -> dict:
    (folder / "sub").mkdir()
    (folder / "sub" / "data.bin").write_bytes(b"a" * 3_000_000)
    (folder / "small.txt").write_text("hello")
    return {"seconds": 1.5}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_computes_once_and_remembers_the_facts(store: Store) -> None:
    first = store.get_or_create(STEP, write)
    assert not first.reused
    again = Store(store.root).get_or_create(STEP, lambda _: pytest.fail("computed twice"))
    assert again.reused
    assert again.facts == {"seconds": 1.5}
    assert (again.path / "sub" / "data.bin").stat().st_size == 3_000_000


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "sub" / "data.bin").write_bytes(b"a" * 2_999_999),
        lambda path: (path / "sub" / "data.bin").write_bytes(b"b" + b"a" * 2_999_999),
        lambda path: (path / "sub" / "data.bin").unlink(),
        lambda path: (path / "small.txt").write_text("hellO"),
        lambda path: (path / "manifest.json").write_text("{"),
        lambda path: (path / "manifest.json").unlink(),
        lambda path: (path / "manifest.json").write_text("[]"),
        lambda path: (path / "manifest.json").write_text(
            (path / "manifest.json").read_text().replace('"seconds": 1.5', '"seconds": 1.4')
        ),
    ],
    ids=[
        "truncated",
        "flipped",
        "missing",
        "small flipped",
        "half manifest",
        "none",
        "other",
        "another figure",
    ],
)
def test_damage_is_noticed_reported_and_computed_again(
    store: Store, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    path = store.get_or_create(STEP, write).path
    damage(path)  # type: ignore[operator]
    fresh = Store(store.root)
    assert fresh.find(STEP.place) is None
    assert str(path) in caplog.text
    again = fresh.get_or_create(STEP, write)
    assert not again.reused
    assert fresh.find(STEP.place) is not None
    assert (again.path / "small.txt").read_text() == "hello"


def test_damage_is_told_once_until_it_is_mended(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for told in (1, 2):
        path = store.get_or_create(STEP, write).path
        (path / "small.txt").write_text("hellO")
        for _ in range(3):
            assert store.find(STEP.place) is None
        assert caplog.text.count("is damaged") == told


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_flipped_bit_of_any_file_goes_unseen(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int, data: st.DataObject
) -> None:
    store = Store(tmp_path_factory.mktemp("home"))
    path = store.get_or_create(STEP, write).path
    file = path / data.draw(st.sampled_from(["sub/data.bin", "small.txt", "manifest.json"]))
    stat, content = file.stat(), bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as `cp --preserve` would
    assert Store(store.root).find(STEP.place) is None


def test_what_was_verified_is_not_read_again_until_it_changes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.get_or_create(STEP, write).path
    read: list[str] = []
    hashed = manifest._sha256
    monkeypatch.setattr(manifest, "_sha256", lambda p: (read.append(p.name), hashed(p))[1])
    assert store.find(STEP.place)
    assert read == []
    os.utime(path / "small.txt")
    assert store.find(STEP.place)
    assert store.find(STEP.place)
    assert read == ["small.txt"]
    assert store.find(STEP.place, afresh=True)
    assert sorted(read) == ["data.bin", "small.txt", "small.txt"]


def test_loss_that_only_a_full_reading_sees_is_seen_by_all_that_follow(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store.get_or_create(STEP, write).path
    stamps = (path / manifest.VERIFIED).read_bytes()
    (path / "small.txt").write_text("hellO")
    with monkeypatch.context() as unseen:
        unseen.setattr(manifest, "_stamps", lambda *_: json.loads(stamps))
        assert store.find(STEP.place)  # a disk that lost it without a trace
        assert store.find(STEP.place, afresh=True) is None
    assert store.find(STEP.place) is None


def test_a_failing_step_leaves_nothing(store: Store) -> None:
    def fail(folder: Path) -> dict:
        (folder / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        store.get_or_create(STEP, fail)
    assert store.find(STEP.place) is None
    assert list((store.root / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
        sqlite3.OperationalError("database or disk is full"),
    ],
)
def test_a_full_disk_is_named_and_leaves_nothing(store: Store, error: Exception) -> None:
    def fill(folder: Path) -> dict:
        (folder / "half").write_text("x")
        raise error

    said = r"no room for the demo artifact: [\d,]+ MB are free"
    with pytest.raises(StorageFullError, match=said):
        store.get_or_create(STEP, fill)
    assert store.find(STEP.place) is None
    assert list((store.root / "tmp").iterdir()) == []


def test_who_quotes_a_user_is_no_full_disk(store: Store) -> None:
    def refuse(folder: Path) -> dict:
        raise ConfigurationError("--to", "disk is full", "a folder")

    with pytest.raises(ConfigurationError):
        store.get_or_create(STEP, refuse)


def _slow(root: str, log: str) -> None:
    def produce(folder: Path) -> dict:
        with Path(log).open("a") as file:
            file.write("computed\n")
        time.sleep(0.5)
        return write(folder)

    Store(Path(root)).get_or_create(STEP, produce)


def test_several_processes_compute_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_slow, args=(str(tmp_path / "home"), str(log))) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
        assert worker.exitcode == 0
    assert log.read_text() == "computed\n"
    assert Store(tmp_path / "home").find(STEP.place) is not None


def _hang(root: str) -> None:
    def produce(folder: Path) -> dict:
        (folder / "half").write_text("x")
        Path(root, "started").touch()
        time.sleep(600)
        return {}

    Store(Path(root)).get_or_create(STEP, produce)


def test_a_killed_process_leaves_no_lock_and_its_leftovers_go(tmp_path: Path) -> None:
    worker = multiprocessing.get_context("spawn").Process(target=_hang, args=(str(tmp_path),))
    worker.start()
    deadline = time.monotonic() + 300
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert worker.pid
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    store = Store(tmp_path)
    assert store.find(STEP.place) is None
    assert len(list((tmp_path / "tmp").iterdir())) == 1
    assert not store.get_or_create(STEP, write).reused
    assert list((tmp_path / "tmp").iterdir()) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.text(), JSON))
def test_the_order_of_keys_does_not_change_a_fingerprint(inputs: dict) -> None:
    reversed_inputs = dict(reversed(inputs.items()))
    assert fingerprint(inputs) == fingerprint(reversed_inputs)
    assert fingerprint(inputs) == fingerprint(json.loads(json.dumps(inputs)))


def test_any_change_of_an_input_changes_the_fingerprint() -> None:
    inputs = {"model": "a", "options": {"alpha": 0.1}, "seed": None, "version": 1}
    others = [
        inputs | {"model": "b"},
        inputs | {"options": {"alpha": 0.2}},
        inputs | {"seed": 0},
        inputs | {"version": 2},
    ]
    prints = {fingerprint(entry) for entry in [inputs, *others]}
    assert len(prints) == 5


def test_a_fingerprint_is_of_everything_behind_a_step() -> None:
    root = Step(name="model", inputs={"model": "a"})
    steps = [
        root,
        Step(name="model", inputs={"model": "b"}),
        Step(name="other", inputs={"model": "a"}),
        Step(name="model", version=2, inputs={"model": "a"}),
        Step(name="model", inputs={"model": "a"}, needs={"x": root}),
        Step(name="model", inputs={"model": "a"}, needs={"y": root}),
        Step(name="model", inputs={"model": "a"}, needs={"x": Step(name="t", inputs={})}),
    ]
    assert len({step.fingerprint for step in steps}) == len(steps)
    said = Step(name="model", inputs={"model": "a"}, label="prepare", words={"model": "gpt2"})
    assert said == root


def test_what_json_cannot_say_exactly_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        fingerprint({"x": float("nan")})
    with pytest.raises(TypeError):
        fingerprint({"path": Path("x")})
