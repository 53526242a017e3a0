"""Progress of long steps in Prefect: a bar and the remaining time, as an artifact of the run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from tasks.pruning.core.methods import Progress

_SECONDS_BETWEEN = 5.0
"""An update is a call of Prefect's API."""


def remaining(done: int, total: int, seconds: float, *, before: int = 0) -> str:
    """``step 3 of 10, about 2 min left``.

    Args:
        seconds: that the steps took.
        before: how many of them an earlier process did, in time that is not counted.
    """
    if done >= total:
        return f"{total} steps"
    if done <= before:
        return f"step {done} of {total}"
    left = seconds / (done - before) * (total - done)
    told = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
    return f"step {done} of {total}, about {told} left"


@contextlib.contextmanager
def shown_in_prefect(label: str, progress: Progress, *, shown: bool) -> Iterator[Progress]:
    """``progress``, and what it is told as a progress artifact, every few seconds.

    Args:
        shown: whether there is to be an artifact; short steps need none.
    """
    if not shown:
        yield progress
        return
    artifact: UUID = create_progress_artifact(0.0, key=None, description=label)  # type: ignore[assignment]
    start = told = time.monotonic()
    first: int | None = None

    def both(done: int, total: int) -> None:
        nonlocal told, first
        progress(done, total)
        now = time.monotonic()
        # A training that goes on from a checkpoint has done its first steps in no time.
        first = done - 1 if first is None else first
        if now - told < _SECONDS_BETWEEN and done < total:
            return
        told = now
        text = remaining(done, total, now - start, before=first)
        with contextlib.suppress(Exception):  # a server's outage must not cost the training
            update_progress_artifact(
                artifact, progress=100.0 * done / total, description=f"{label}: {text}"
            )

    yield both
