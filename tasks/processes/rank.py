"""One process of a call: the other half of ``call.py``."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.processes.lifeline import end_with_parent

if TYPE_CHECKING:
    import torch

_PATIENCE = timedelta(days=365)
"""How long ranks wait for each other, which torch limits to minutes: one may have more to do, or a
long snapshot to write. When one dies, the parent ends the others."""


@dataclass(frozen=True)
class Rank:
    """This process's place among the others.

    Attributes:
        scratch: the call's folder.
        index, count: which of how many.
    """

    scratch: Path
    index: int
    count: int
    _writing: int

    def tell(self, done: int, total: int) -> None:
        """How far this rank is; the caller adds up what all have done."""
        self._write("progress", done, total)

    def device(self, *, on_cpu: bool) -> torch.device:
        """The CPU, or the GPU of this rank's number, which becomes the current one."""
        import torch

        if on_cpu:
            return torch.device("cpu")
        device = torch.device("cuda", self.index)
        torch.cuda.set_device(device)
        return device

    def _write(self, kind: str, *what: Any) -> None:
        left = json.dumps([kind, *what], allow_nan=False).encode() + b"\n"
        while left:
            left = left[os.write(self._writing, left) :]


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Meet the other ranks at the parent's store; Accelerate takes this group as its own.

    At the end all wait for each other. After an error nobody leaves the group: NCCL would first
    wait for ranks that wait for this one.
    """
    from torch import distributed
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    distributed.init_process_group(
        backend="gloo" if device.type == "cpu" else "nccl",
        store=TCPStore(host, port, is_master=False),
        timeout=_PATIENCE,
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )
    yield
    distributed.barrier()
    distributed.destroy_process_group()


def main(name: str, scratch: str, index: str, count: str, writing: str) -> None:
    """Call ``module:function`` with the job that the first line of the standard input holds."""
    os.set_inheritable(int(writing), False)
    told = b""
    while not told.endswith(b"\n"):
        received = os.read(0, 1 << 16)
        if not received:
            sys.exit("the parent is gone")
        told += received
    end_with_parent()
    job = json.loads(told)
    rank = Rank(Path(scratch), int(index), int(count), int(writing))
    module, _, function = name.partition(":")
    try:
        called = getattr(import_module(module), function)
        rank._write("result", called(job, rank) if rank.count > 1 else called(job))
    except BaseException:
        rank._write("error", traceback.format_exc(), time.monotonic())
        if rank.count == 1:
            raise
        # At once, for the group's own destructor waits as leaving it does.
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
