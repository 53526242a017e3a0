"""What an exception that ends the command says to its user, and the exit status it means."""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from configs.errors import ConfigurationError
from flows.serve.embedded import ServerError
from tasks.models.errors import SourceUnavailableError, UnsupportedModelError
from tasks.runtime.links import redacted
from tasks.store.home import home
from tasks.store.store import StorageFullError, Store
from tasks.tracking import TrackingUnavailableError

_NOBODYS = (
    *(SourceUnavailableError, UnsupportedModelError),
    *(ServerError, StorageFullError, TrackingUnavailableError),
)
"""What is nobody's mistake and may be gone later: a hub, a server, a full disk."""
_LIMITS = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_OF_FILES = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE)


def _of_the_machine(error: Exception) -> bool:
    """Whether the operating system says that a limit is reached, or a file cannot be used."""
    if not isinstance(error, OSError):
        return False
    return error.errno in _LIMITS or (error.errno in _OF_FILES and error.filename is not None)


def tell(error: Exception, say: Callable[[str, str], None]) -> int:
    """Say what went wrong; the exit status.

    Args:
        say: takes what kind of line it is, empty for a further one, and its text.
    """
    if isinstance(error, ConfigurationError):
        say("error", str(error))
        return 2
    if isinstance(error, FileNotFoundError) and _working_folder_is_gone():
        say("error", "the working folder is gone: change to another folder")
        return 2
    if isinstance(error, _NOBODYS):
        say("error", str(error))
        say("", "run the same command again later: what was computed stays")
        return 1
    try:  # from a full disk anything can fail, in words of its own
        Store(home()).require_room(None, "what is to be written")
    except StorageFullError as full:
        say("error", str(full))
        say("", "run the same command again when there is room: what was computed stays")
        return 1
    except (OSError, ConfigurationError):  # of the home
        pass
    if _of_the_machine(error):
        say("error", str(error).split("] ", 1)[-1])
        say("", "what was computed stays; run the same command again when that is mended")
        return 1
    told = str(error).strip() or "no message"
    say("error", f"{type(error).__name__}: {told.splitlines()[0][:500]}")
    if log := _kept_traceback():
        say("", f"this is a fault of secateur's; its traceback is in {log}")
    return 1


def _working_folder_is_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _kept_traceback() -> Path | None:
    """Append the traceback of the exception at hand to a log; None where none can be written."""
    now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    try:
        path = home() / "logs" / "errors.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(redacted(f"{now} {' '.join(sys.argv)}\n{traceback.format_exc()}\n"))
    except (OSError, ValueError):
        return None
    return path
