"""The authentication string: asked for beyond loopback, made once, kept for its owner alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from rich.console import Console

from configs.errors import ConfigurationError
from flows.serve.auth import ASKED, auth_header, kept_in, require, send_kept
from flows.serve.services import UpOptions
from flows.serve.up import _ask

EVERYWHERE = "0.0.0.0"  # noqa: S104
SENT = "PREFECT_API_AUTH_STRING"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the code under test puts into the environment goes with the test."""
    for name in (ASKED, SENT):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in another process."""
    for name in (ASKED, SENT):
        monkeypatch.delenv(name, raising=False)


def said(options: UpOptions, home: Path) -> str:
    console = Console(record=True, width=300, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    _ask(options, home, console)
    return console.export_text()


def test_on_loopback_nobody_is_asked(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        assert require(host, tmp_path).text == ""
    assert not kept_in(tmp_path).exists()
    assert ASKED not in os.environ
    assert auth_header() == {}


def test_one_is_made_shown_once_and_kept_for_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = said(UpOptions(host=EVERYWHERE), tmp_path)
    text = os.environ[ASKED]
    user, _, password = text.partition(":")
    assert user == "secateur"
    assert len(password) >= 32
    assert text in first
    assert kept_in(tmp_path).read_text() == f"{text}\n"
    assert kept_in(tmp_path).stat().st_mode & 0o777 == 0o600
    forget(monkeypatch)
    again = said(UpOptions(host=EVERYWHERE), tmp_path)
    assert os.environ[ASKED] == os.environ[SENT] == text
    assert password not in again
    assert str(kept_in(tmp_path)) in again


def test_two_homes_have_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append(require(EVERYWHERE, tmp_path / name).text)
        forget(monkeypatch)
    assert made[0] != made[1]


def test_a_given_one_is_asked_for_and_kept_but_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_in(tmp_path).write_text("old:one\n")
    kept_in(tmp_path).chmod(0o644)
    for host in (EVERYWHERE, "127.0.0.1"):
        monkeypatch.setenv(ASKED, "me:hush-hush")
        assert "hush-hush" not in said(UpOptions(host=host), tmp_path)
        assert os.environ[SENT] == "me:hush-hush"
    assert kept_in(tmp_path).read_text() == "me:hush-hush\n"
    assert kept_in(tmp_path).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("wrong", ["secret", ":secret", "me:"])
def test_what_no_browser_could_send_is_refused_and_not_repeated(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ASKED, wrong)
    with pytest.raises(ConfigurationError, match="USER:PASSWORD") as refused:
        require(EVERYWHERE, tmp_path)
    assert wrong not in str(refused.value).replace("USER:PASSWORD", "")


def test_commands_on_the_home_send_what_is_kept_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send_kept(tmp_path)
    assert auth_header() == {}
    require(EVERYWHERE, tmp_path)
    text = os.environ[ASKED]
    forget(monkeypatch)
    send_kept(tmp_path)
    assert os.environ[SENT] == text
    assert auth_header()["Authorization"].startswith("Basic ")
    monkeypatch.setenv(SENT, "me:other")
    send_kept(tmp_path)
    assert os.environ[SENT] == "me:other"
