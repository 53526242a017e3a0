"""What is said of an exception that ends the command."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from flows import cli
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


def test_a_signal_lets_any_command_clear_what_it_began(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cleared = []

    def works(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleared.append(True)

    monkeypatch.setattr("flows.commands.gc.collect_garbage", works)
    monkeypatch.setattr("sys.argv", ["secateur", "gc"])
    former = signal.getsignal(signal.SIGTERM)
    assert cli.status() == 128 + signal.SIGTERM
    assert cleared == [True]
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == former


def test_every_command_but_up_which_ends_its_servers_itself_is_one_of_those() -> None:
    plain = [
        entry.callback.__name__
        for entry in cli.app.registered_commands
        if entry.callback and not hasattr(entry.callback, "__wrapped__")
    ]
    assert plain == ["up"]
