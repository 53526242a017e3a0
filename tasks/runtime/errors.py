"""What an error holds on to."""

from __future__ import annotations

import traceback


def forget_frames(error: BaseException) -> None:
    """Drop the local variables of the ended frames that an error and its causes came through.

    Whoever keeps the error, to tell it later, would keep them as well: a model and its gradients.
    """
    known: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        if (one := waiting.pop()) is None or id(one) in known:
            continue
        known.add(id(one))
        traceback.clear_frames(one.__traceback__)
        waiting += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
