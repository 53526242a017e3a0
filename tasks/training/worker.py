"""One rank of a training run: ``python -m tasks.training.worker SCRATCH DESCRIPTOR``.

Started by ``launcher.py`` alone. Rank 0 tells its steps through the descriptor and writes the
result.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path


def main(scratch: Path, writing: int) -> int:
    """Run this rank; the exit status."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    rank = int(os.environ["RANK"])
    try:
        _run(scratch, rank, writing)
    except BaseException:
        from tasks.training.launcher import error_of

        temporary = error_of(scratch, rank).with_suffix(".writing")
        temporary.write_text(traceback.format_exc(), encoding="utf-8")
        temporary.rename(error_of(scratch, rank))
        raise
    return 0


def _end_with_parent() -> None:
    # Not through sys.stdin, whose lock a thread that waits would hold as the interpreter ends.
    while os.read(0, 1 << 10):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _run(scratch: Path, rank: int, writing: int) -> None:
    import torch
    from torch import distributed

    from configs.schema import Trust
    from tasks.models.load import DTYPES, load_model
    from tasks.pruning.blocks import Decoder
    from tasks.pruning.registry import get, parse_target
    from tasks.pruning.retraining import RetrainingMethod
    from tasks.training.files import MODEL, read_job, write_result
    from tasks.training.run import retrain_here

    job, training_NL = read_job(scratch)
    device = torch.device("cpu") if job.on_cpu else torch.device("cuda", rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    _join(device)
    try:
        trust = Trust(remote_code=job.remote_code)
        model = load_model(scratch / MODEL, DTYPES[job.dtype], device, trust)
        method = get(job.method)(**job.options)
        assert isinstance(method, RetrainingMethod)

        def tell(done: int, total: int) -> None:
            if rank == 0:
                os.write(writing, json.dumps([done, total]).encode() + b"\n")

        result = retrain_here(
            model,
            Decoder(model, job.blocks_name),
            method,
            parse_target(job.target),
            training_NL,
            seed=job.seed,
            scratch=scratch,
            progress=tell,
            checkpoint_seconds=job.checkpoint_seconds,
        )
        if rank == 0:
            write_result(scratch, result)
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def _join(device: object) -> None:
    """Meet the other ranks at the parent's store; Accelerate then takes this group as its own."""
    from torch import distributed
    from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    distributed.init_process_group(
        backend="gloo" if str(device) == "cpu" else "nccl",
        store=TCPStore(host, port, is_master=False),
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
