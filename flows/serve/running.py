"""``up.json``: which ``secateur up`` serves a home, for other commands and for the next ``up``."""

from __future__ import annotations

import contextlib
import json
import os
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from flows.serve.auth import send_kept
from tasks.runtime.links import MLFLOW_URL, PREFECT_URL

TOKEN = "SECATEUR_UP"  # noqa: S105 (a variable's name)
"""Environment variable that marks every process of one ``up``, its children's children too."""
_GONE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Running:
    """One ``secateur up``.

    Attributes:
        token: marks its processes.
        pid, created: of its first process; together they name it for ever.
        prefect, mlflow: addresses of the pages.
    """

    token: str
    pid: int
    created: float
    prefect: str
    mlflow: str

    @property
    def alive(self) -> bool:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            zombie = process.status() == psutil.STATUS_ZOMBIE
            return abs(process.create_time() - self.created) < 1 and not zombie
        return False

    def processes(self) -> list[psutil.Process]:
        """Its processes but this one, found by the mark in their environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                marked = process.environ().get(TOKEN) == self.token
                if marked and process.pid != os.getpid():
                    found.append(process)
        return found

    def kill_rest(self) -> int:
        """Kill what is left of it, and say how many processes that were."""
        left = self.processes()
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=_GONE_SECONDS)
        return len(left)


def written(home: Path) -> Running | None:
    """What the home's ``up.json`` says, whether that ``up`` still runs or not."""
    try:
        return Running(**json.loads((home / "up.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write(home: Path, running: Running) -> None:
    partial = home / "up.json.partial"
    partial.write_text(json.dumps(asdict(running), indent=1), encoding="utf-8")
    partial.replace(home / "up.json")


def remove(home: Path) -> None:
    (home / "up.json").unlink(missing_ok=True)


def this_process() -> tuple[int, float]:
    """(pid, time of creation) of this process."""
    return os.getpid(), psutil.Process().create_time()


def use_running(home: Path) -> bool:
    """Let this process use the servers of an ``up`` that serves the home, if one answers.

    Its runs then appear in the page at once, and link to each other.

    Returns:
        Whether Prefect's is this home's own.
    """
    running = written(home)
    if running is None or not running.alive:
        return False
    joined = not os.environ.get("PREFECT_API_URL")
    if joined:
        if not answers(f"{running.prefect}/api/health"):
            return False
        os.environ["PREFECT_API_URL"] = f"{running.prefect}/api"
        send_kept(home)
        os.environ.setdefault(PREFECT_URL, running.prefect)
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        os.environ.setdefault(MLFLOW_URL, running.mlflow)
    return joined


def answers(url: str, timeout: float = 5.0) -> bool:
    """Whether a server says 200 to a GET."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310
            return answer.status == 200
    except (OSError, urllib.error.URLError, ValueError):
        return False
