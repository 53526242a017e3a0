"""Results that Prefect stores are never read here: no flow of ours stores any.

A run's state says where its result lies and how it is to be read, and whoever reaches the API
writes states: Prefect would unpickle what they put there.
"""

from __future__ import annotations

from typing import Any

from prefect.results import ResultStore


class StoredResultError(RuntimeError):
    """A state names a stored result."""


def _refuse(_store: ResultStore, key: str, holder: str) -> Any:
    raise StoredResultError(
        f"the state names a stored result ({key}): secateur stores none in Prefect and reads none, "
        "so somebody else has set this state"
    )


async def _arefuse(store: ResultStore, key: str, holder: str) -> Any:
    return _refuse(store, key, holder)


def read_no_stored_results() -> None:
    """Make Prefect refuse them, in this process."""
    # All that reads one ends in these two.
    ResultStore._read = _refuse  # type: ignore[method-assign]
    ResultStore._aread = _arefuse  # type: ignore[method-assign]
