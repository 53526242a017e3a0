"""Digests of files, and the memory that spares computing them again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from tasks.models.sources import digests
from tasks.models.sources.digests import digest_of, file_digest, folder_digest


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(digests, "REMEMBERED_FROM", 10)
    path = tmp_path / "weights"
    path.write_bytes(b"x" * 100)
    return path


def poison(memory: Path) -> None:
    """Replace remembered digests, to see whether they are used."""
    content = json.loads(memory.read_text())
    memory.write_text(json.dumps(dict.fromkeys(content, "0" * 64)))


def test_remembered_until_the_file_changes(large: Path, tmp_path: Path) -> None:
    memory = tmp_path / "deep" / "digests.json"
    expected = hashlib.sha256(b"x" * 100).hexdigest()
    assert file_digest(large, memory) == expected
    poison(memory)
    assert file_digest(large, memory) == "0" * 64
    assert file_digest(large) == expected
    status = large.stat()
    os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert file_digest(large, memory) == expected


def test_changed_contents_of_the_same_size_and_time_are_hashed(large: Path, tmp_path: Path) -> None:
    memory = tmp_path / "digests.json"
    status = large.stat()
    before = file_digest(large, memory)
    while large.stat().st_ctime_ns == status.st_ctime_ns:  # a clock may stand for milliseconds
        with large.open("r+b") as file:
            file.write(b"y")
        os.utime(large, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_digest(large, memory) == file_digest(large) != before


def test_small_files_are_not_remembered(tmp_path: Path) -> None:
    path, memory = tmp_path / "small", tmp_path / "digests.json"
    path.write_bytes(b"abc")
    file_digest(path, memory)
    assert not memory.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": 3}', "\x00"])
def test_broken_memory_is_ignored_and_replaced(large: Path, tmp_path: Path, content: str) -> None:
    memory = tmp_path / "digests.json"
    memory.write_text(content)
    assert file_digest(large, memory) == hashlib.sha256(b"x" * 100).hexdigest()
    assert len(json.loads(memory.read_text())) == 1


def test_memory_that_cannot_be_written_costs_nothing(large: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    expected = hashlib.sha256(b"x" * 100).hexdigest()
    assert file_digest(large, tmp_path / "file" / "digests.json") == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "weights"]


def test_links_share_their_target(large: Path, tmp_path: Path) -> None:
    memory = tmp_path / "digests.json"
    (tmp_path / "link").symlink_to(large)
    assert file_digest(large, memory) == file_digest(tmp_path / "link", memory)
    assert len(json.loads(memory.read_text())) == 1


def test_folder_digest_names_its_files(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    files = {name: tmp_path / name for name in "ab"}
    swapped = {"a": tmp_path / "b", "b": tmp_path / "a"}
    assert folder_digest(files) != folder_digest(swapped)
    assert folder_digest(files) == folder_digest(dict(reversed(files.items())))


def test_canonical_json() -> None:
    assert digest_of({"b": 1, "a": "é"}) == digest_of({"a": "é", "b": 1})
    assert digest_of([1]) != digest_of(["1"])
