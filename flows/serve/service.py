"""One child process of ``secateur up``, and the port that it will have."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from configs.errors import ConfigurationError
from tasks.processes.lifeline import Child


class Service(Child):
    """A command under a guard: it ends when ``stop`` is called or this process is gone."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            super().__init__(
                [sys.executable, "-m", "tasks.processes.guard", sys.executable, *command],
                environment=environment,
                output=output,
            )

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])


def listen(host: str, port: int, option: str) -> socket.socket:
    """A socket on ``host:port``.

    Raises:
        ConfigurationError: when the port is taken or the host is none of this machine's.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if isinstance(error, socket.gaierror) or error.errno in (99, 49):
            allowed = "it must be a name or address of this machine"
            raise ConfigurationError("--host", host, allowed, str(error)) from error
        allowed = f"the port cannot be used on {host}: {error.strerror}"
        hint = f"Another program listens there; end it, or choose another port with {option}"
        raise ConfigurationError(option, port, allowed, hint) from error
