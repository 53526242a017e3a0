"""Prefect states that tell what happened: a task that the store could answer is Cached."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed


def cached(value: Any) -> State:
    """The state that Prefect itself gives a task whose result it has.

    The store, not Prefect, decides: it verifies the artifact, which a Prefect cache key does not.
    """
    return Completed(name="Cached", message="The store has this artifact.", data=value)


def can_pass(state: State, *kinds: type[BaseException]) -> bool:
    """Whether a task failed with an error that may be gone on a second try."""
    try:
        state.result(raise_on_failure=True)
    except kinds:
        return True
    except BaseException:  # noqa: BLE001 (any other error is no reason to try again)
        return False
    return False
