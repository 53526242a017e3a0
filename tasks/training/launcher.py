"""Runs a training method in several processes of this machine, one a rank.

Each worker has a process group of its own and a pipe as its standard input, which ends with this
process however this process ends; the worker then ends its group. When one worker fails, the others
are ended at once, for they would wait for it in vain.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

from tasks.pruning.base import Progress, PruneResult
from tasks.pruning.blocks import Decoder
from tasks.pruning.retraining import RetrainingMethod
from tasks.pruning.targets import Target
from tasks.training.errors import TrainingError
from tasks.training.files import Job, read_result, write_job

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_POLL_SECONDS = 0.2
_TAIL_LINES = 30
_HOST = "127.0.0.1"


def retrain_in_processes(
    model: PreTrainedModel,
    decoder: Decoder,
    method: RetrainingMethod,
    target: Target,
    training_NL: Tensor,
    *,
    seed: int,
    processes: int,
    scratch: Path,
    progress: Progress | None = None,
    checkpoint_seconds: float = 60.0,
) -> PruneResult:
    """Data parallel :func:`tasks.training.run.retrain`.

    Raises:
        ValueError: for more processes than there are GPUs, where the model is on one.
        TrainingError: a worker failed.
    """
    device = next(model.parameters()).device
    if device.type != "cpu" and processes > torch.cuda.device_count():
        raise ValueError(
            f"processes: {processes} were asked for, and there are {torch.cuda.device_count()} GPUs"
        )
    scratch.mkdir(parents=True, exist_ok=True)
    job = Job(
        method=method.name,
        options=dataclasses.asdict(method),
        target=str(target),
        seed=seed,
        blocks_name=decoder.blocks_name,
        dtype=str(model.dtype).removeprefix("torch."),
        on_cpu=device.type == "cpu",
        remote_code=type(model).__module__.startswith("transformers_modules"),
        checkpoint_seconds=checkpoint_seconds,
    )
    write_job(scratch, job, model, training_NL)
    # The parent holds the store, so that no port is chosen before it is taken.
    store = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as steps:
        try:
            workers = [_start(rank, processes, store.port, scratch, writing)
                       for rank in range(processes)]  # fmt: skip
        finally:
            os.close(writing)
        with _ended(workers):
            _watch(workers, steps.fileno(), scratch, progress)
    return read_result(scratch)


def log_of(scratch: Path, rank: int) -> Path:
    """What a worker writes to its standard output and error."""
    return scratch / f"rank-{rank}.log"


def error_of(scratch: Path, rank: int) -> Path:
    """A worker's traceback, once it failed."""
    return scratch / f"rank-{rank}.error"


def _start(
    rank: int, processes: int, port: int, scratch: Path, writing: int
) -> subprocess.Popen[bytes]:
    error_of(scratch, rank).unlink(missing_ok=True)
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
            [sys.executable, "-m", "tasks.training.worker", str(scratch), str(writing)],
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
    steps: int,
    scratch: Path,
    progress: Progress | None,
) -> None:
    """Return once all workers succeeded.

    Raises:
        TrainingError: as soon as one did not.
    """
    rest, open_ = b"", True
    while True:
        statuses = [worker.poll() for worker in workers]
        if any(statuses):
            raise TrainingError(_told(statuses, scratch))
        if open_ and select.select([steps], [], [], _POLL_SECONDS)[0]:
            received = os.read(steps, 1 << 16)
            open_ = bool(received)
            *lines, rest = (rest + received).split(b"\n")
            if lines and progress:
                done, total = json.loads(lines[-1])
                progress(done, total)
        elif not open_:
            # All have closed their ends, so all are ending.
            if all(status == 0 for status in statuses):
                return
            with suppress(subprocess.TimeoutExpired):
                next(w for w in workers if w.returncode is None).wait(_POLL_SECONDS)


def _told(statuses: Sequence[int | None], scratch: Path) -> str:
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
        return f"training process {first} of {len(statuses)} failed:\n{path.read_text()}"
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
    lines = log_of(scratch, first).read_text(errors="replace").splitlines()[-_TAIL_LINES:]
    return "\n".join([f"training process {first} of {len(statuses)} {how}", *lines])
