"""A PostgreSQL server of one's own, from the machine's package, never as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def binaries() -> Path | None:
    """The newest installed server's folder of programs; None when there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: p.parts[4])
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


@contextmanager
def server(port: int, user: str, password: str, database: str) -> Iterator[None]:
    """A server that answers on the loopback ``port`` and leaves nothing behind."""
    # Not below pytest's folder, which other sessions of pytest close to all users but root.
    with (
        tempfile.TemporaryDirectory(prefix="secateur-postgres-") as folder,
        _running(Path(folder), port, user, password, database),
    ):
        yield


@contextmanager
def _running(folder: Path, port: int, user: str, password: str, database: str) -> Iterator[None]:
    programs = binaries()
    assert programs is not None
    data = folder / "data"
    secret = folder / "password"
    secret.write_text(password)
    if os.getuid() == 0:
        for path in (folder, secret):
            shutil.chown(path, "postgres", "postgres")

    def call(*words: str) -> None:
        done = subprocess.run(words, capture_output=True, text=True, check=False, **_as_postgres())
        assert done.returncode == 0, done.stdout + done.stderr

    call(str(programs / "initdb"), "--pgdata", str(data), "--username", user, "--auth",
         "scram-sha-256", "--pwfile", str(secret), "--no-sync", "--encoding", "UTF8")  # fmt: skip
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    control = (str(programs / "pg_ctl"), "--pgdata", str(data), "--wait")
    call(*control, "--log", str(folder / "log"), "--options", options, "start")
    try:
        query(programs, port, user, password, "postgres", f"CREATE DATABASE {database}")
        yield
    finally:
        call(*control, "--mode", "immediate", "stop")


def query(programs: Path, port: int, user: str, password: str, database: str, sql: str) -> str:
    """The answer to one query."""
    where = ["--host", "127.0.0.1", "--port", str(port), "--username", user, "--dbname", database]
    command = [str(programs / "psql"), *where, "--no-align", "--tuples-only", "--command", sql]
    environment = {**os.environ, "PGPASSWORD": password}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _as_postgres() -> dict[str, Any]:
    return {"user": "postgres", "group": "postgres", "cwd": "/"} if os.getuid() == 0 else {}
