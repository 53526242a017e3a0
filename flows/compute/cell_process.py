"""One cell in a process of its own, which sees only the devices that were lent to it.

    echo JOB | python -m flows.compute.cell_process

Reads one line of JSON, prints one line of JSON, and ends its whole group when its input ends.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading


def _end_with_parent() -> None:
    # Not by sys.stdin, whose lock a thread that still reads would keep at this process's end.
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    """Compute the cell that the first line of the standard input names."""
    with os.fdopen(0, "rb", buffering=0, closefd=False) as told:
        job = json.loads(told.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings = logging.StreamHandler()
    warnings.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("secateur").addHandler(warnings)

    from configs.yaml_file import validate
    from flows.cell import run_cell
    from flows.compute.here import reason_of

    config = validate(job.pop("config"))
    state = run_cell(config=config, **job, return_state=True)
    error = "" if state.is_completed() else reason_of(state)
    sys.stdout.write(json.dumps({"error": error}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
