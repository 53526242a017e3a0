"""Runs a module in several processes of this machine, one a rank.

Each worker has a process group of its own and a pipe as its standard input, which ends with this
process however this process ends; the worker then ends its group. When one worker fails, the others
are ended at once, for they would wait for it in vain. A worker's half is ``rank.py``.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from tasks.processes.rank_errors import RankError
from tasks.processes.rank_files import error_of, log_of, report_of
from tasks.pruning.core.methods import Progress

_POLL_SECONDS = 0.2
_TAIL_LINES = 30
_HOST = "127.0.0.1"


def run_ranks(
    module: str,
    scratch: Path,
    processes: int,
    *,
    work: str,
    progress: Progress | None = None,
) -> None:
    """Run ``python -m module`` in so many processes, and return once all have succeeded.

    Args:
        module: hands its work to :func:`tasks.processes.rank.main`.
        scratch: a folder that exists: the ranks find their work there and leave their logs, reports
            and errors.
        work: what they do, in a word that an error's message begins with, such as ``training``.
        progress: called with (parts done by all ranks together, the most that any gave as total).

    Raises:
        RankError: as soon as one failed, with its traceback or the end of its log.
    """
    # The parent holds the store, so that no port is chosen before it is taken.
    store = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    reading, writing = os.pipe()
    workers: list[subprocess.Popen[bytes]] = []
    with os.fdopen(reading, "rb", buffering=0) as told, _ended(workers):
        try:
            for rank in range(processes):
                workers.append(_start(module, rank, processes, store.port, scratch, writing))
        finally:
            os.close(writing)
        _watch(workers, told.fileno(), scratch, work, progress)


def _start(
    module: str, rank: int, processes: int, port: int, scratch: Path, writing: int
) -> subprocess.Popen[bytes]:
    for left_behind in (error_of(scratch, rank), report_of(scratch, rank)):
        left_behind.unlink(missing_ok=True)
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": _HOST,
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // processes)),
    }
    with log_of(scratch, rank).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, str(scratch), str(writing)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            pass_fds=[writing],
            start_new_session=True,
        )


@contextmanager
def _ended(workers: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """No worker, nor a child of one, outlives this."""
    try:
        yield
    finally:
        for worker in workers:
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
        for worker in workers:
            worker.wait()
            assert worker.stdin is not None
            worker.stdin.close()


def _watch(
    workers: Sequence[subprocess.Popen[bytes]],
    told: int,
    scratch: Path,
    work: str,
    progress: Progress | None,
) -> None:
    """Return once all workers succeeded.

    Raises:
        RankError: as soon as one did not.
    """
    rest, open_ = b"", True
    done: dict[int, tuple[int, int]] = {}
    while True:
        statuses = [worker.poll() for worker in workers]
        if any(statuses):
            raise RankError(_failure(statuses, scratch, work))
        if open_ and select.select([told], [], [], _POLL_SECONDS)[0]:
            received = os.read(told, 1 << 16)
            open_ = bool(received)
            *lines, rest = (rest + received).split(b"\n")
            for line in lines:
                rank, *parts = json.loads(line)
                done[rank] = (parts[0], parts[1])
            if lines and progress:
                progress(sum(d for d, _ in done.values()), max(t for _, t in done.values()))
        elif not open_:
            # All have closed their ends, so all are ending.
            if all(status == 0 for status in statuses):
                return
            with suppress(subprocess.TimeoutExpired):
                next(w for w in workers if w.returncode is None).wait(_POLL_SECONDS)


def _failure(statuses: Sequence[int | None], scratch: Path, work: str) -> str:
    """What the first worker to fail said: the others fail because it is gone."""
    failed = [rank for rank, status in enumerate(statuses) if status]

    def order(rank: int) -> tuple[bool, float]:
        path, status = error_of(scratch, rank), statuses[rank]
        killed = status is not None and status < 0
        return not killed, path.stat().st_mtime if path.exists() else 0.0

    first = min(failed, key=order)
    status, path = statuses[first], error_of(scratch, first)
    assert status is not None
    if path.exists():
        return f"{work} process {first} of {len(statuses)} failed:\n{path.read_text()}"
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
    lines = log_of(scratch, first).read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join([f"{work} process {first} of {len(statuses)} {how}", *lines])
