"""The authentication string that both servers ask for, where other machines can reach them."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from configs.errors import ConfigurationError
from flows.serve.gate import basic
from flows.serve.settings import LOOPBACK

ASKED = "PREFECT_SERVER_API_AUTH_STRING"
"""What the servers ask for: Prefect's own setting, which MLflow's gate reads as well."""
_SENT = "PREFECT_API_AUTH_STRING"
"""What Prefect's clients send."""


NEEDED = "it must be USER:PASSWORD, since browsers ask for both"


def complete(text: str) -> bool:
    """Whether an authentication string has both halves."""
    user, _, password = text.partition(":")
    return bool(user and password)


@dataclass(frozen=True, kw_only=True)
class Authentication:
    """What is asked for.

    Attributes:
        text: ``USER:PASSWORD``; empty: nothing is asked for.
        made: whether nobody has seen it yet.
    """

    text: str = ""
    made: bool = False


def kept_in(home: Path) -> Path:
    """The file that holds the string, for other commands on this home."""
    return home / "auth-string"


def require(host: str, home: Path) -> Authentication:
    """The string that servers on ``host`` ask for, given or made; this process sends it, too.

    Raises:
        ConfigurationError: what was given is not USER:PASSWORD.
    """
    given = os.environ.get(ASKED, "")
    if not given and host in LOOPBACK:
        return Authentication()
    if given and not complete(given):
        raise ConfigurationError(ASKED, "(not shown)", NEEDED)
    kept = _read(home)
    text = given or kept or f"secateur:{secrets.token_urlsafe(24)}"
    if text != kept:
        _keep(home, text)
    os.environ[ASKED] = text
    os.environ[_SENT] = text
    return Authentication(text=text, made=not given and not kept)


def send_kept(home: Path) -> None:
    """Let this process's requests to the home's own server bring the string, if one is kept."""
    if kept := _read(home):
        os.environ.setdefault(_SENT, kept)


def auth_header() -> dict[str, str]:
    """What a request to Prefect's API must bring, beside what Prefect's own client sends."""
    sent = os.environ.get(_SENT, "")
    return {"Authorization": basic(sent)} if sent else {}


def _read(home: Path) -> str:
    try:
        return kept_in(home).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _keep(home: Path, text: str) -> None:
    path = kept_in(home)
    path.unlink(missing_ok=True)  # another file's mode would stay
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{text}\n")
