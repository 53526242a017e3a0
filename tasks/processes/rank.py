"""One rank of several: a worker's half of what ``launcher.py`` starts."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Rank:
    """This process's place among the others.

    Attributes:
        scratch: the run's folder.
        index, count: which of how many.
    """

    scratch: Path
    index: int
    count: int
    _writing: int

    def tell(self, done: int, total: int) -> None:
        """How far this rank is; the launcher adds up what all have done."""
        os.write(self._writing, json.dumps([self.index, done, total]).encode() + b"\n")

    def report(self, facts: Mapping[str, Any]) -> None:
        """Leave facts about this rank for :func:`tasks.processes.rank_files.read_reports`."""
        from tasks.processes.rank_files import report_of

        text = json.dumps(dict(facts), allow_nan=False)
        report_of(self.scratch, self.index).write_text(text, encoding="utf-8")

    def device(self, *, on_cpu: bool) -> torch.device:
        """The CPU, or the GPU of this rank's number, which becomes the current one."""
        import torch

        if on_cpu:
            return torch.device("cpu")
        device = torch.device("cuda", self.index)
        torch.cuda.set_device(device)
        return device


def main(work: Callable[[Rank], None]) -> int:
    """Do ``work`` as the rank that the environment and command line say; the exit status.

    A failure leaves its traceback in a file of the rank, and however the parent ends, so does this.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    scratch, writing = Path(sys.argv[1]), int(sys.argv[2])
    rank = Rank(scratch, int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), writing)
    try:
        work(rank)
    except BaseException:
        from tasks.processes.rank_files import error_of

        temporary = error_of(scratch, rank.index).with_suffix(".writing")
        temporary.write_text(traceback.format_exc(), encoding="utf-8")
        temporary.rename(error_of(scratch, rank.index))
        raise
    return 0


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Meet the other ranks at the parent's store; Accelerate takes this group as its own.

    At the end all wait for each other.
    """
    from torch import distributed
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    distributed.init_process_group(
        backend="gloo" if device.type == "cpu" else "nccl",
        store=TCPStore(host, port, is_master=False),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )
    try:
        yield
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def _end_with_parent() -> None:
    # Not through sys.stdin, whose lock a thread that waits would hold as the interpreter ends.
    while os.read(0, 1 << 10):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)
