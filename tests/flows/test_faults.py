"""What is said of an exception that ends the command."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flows.faults import tell
from flows.serve.embedded import EmbeddedServer, ServerError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECATEUR_HOME", str(tmp_path))
    return tmp_path


def said_of(error: Exception) -> tuple[int, str]:
    lines: list[str] = []
    return tell(error, lambda _, text: lines.append(text)), "\n".join(lines)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO, errno.EMFILE])
def test_what_the_machine_refuses_is_no_fault_of_secateurs(number: int, home: Path) -> None:
    status, said = said_of(OSError(number, os.strerror(number), "/mnt/home/results.csv"))
    assert status == 1
    assert said.startswith(f"{os.strerror(number)}: '/mnt/home/results.csv'")
    assert "fault" not in said
    assert not (home / "logs").exists()


def test_a_refusal_that_names_no_file_keeps_its_traceback(home: Path) -> None:
    _, said = said_of(PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    assert "fault of secateur's" in said
    assert (home / "logs" / "errors.log").exists()


def test_a_missing_file_is_a_fault_with_a_traceback(home: Path) -> None:
    status, said = said_of(FileNotFoundError(errno.ENOENT, "nothing there", "x"))
    assert status == 1
    assert "fault of secateur's" in said
    assert "nothing there" in said
    assert (home / "logs" / "errors.log").exists()


def test_a_damaged_database_of_prefects_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_DATABASE_CONNECTION_URL", raising=False)
    database = home / "prefect" / "prefect.db"
    database.parent.mkdir()
    database.write_bytes(b"not a database at all" * 100)
    server = EmbeddedServer(home)
    try:
        with pytest.raises(ServerError, match=r"prefect.db is damaged: .*Move it away"):
            server.wait()
    finally:
        server.stop()
    elsewhere = "sqlite+aiosqlite:////nowhere/at/all.db"
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", elsewhere)
    server = EmbeddedServer(home)
    try:
        with pytest.raises(ServerError, match="did not start") as caught:
            server.wait()
    finally:
        server.stop()
    assert "Move it away" not in str(caught.value), "it is another database that this one has"
