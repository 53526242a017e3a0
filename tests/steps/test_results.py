"""Whoever sets a run's state can make nobody unpickle what they stored."""

from __future__ import annotations

import base64
import json
import os
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prefect.client.schemas.objects import State, StateType
from prefect.results import ResultStore
from prefect.states import get_state_exception

import tasks.steps.run  # noqa: F401 (as every process does that runs a step)
from tasks.steps.results import StoredResultError


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED])
def test_a_states_stored_result_is_not_read(kind: StateType, tmp_path: Path) -> None:
    marker, stored = tmp_path / "marker", tmp_path / "stored"
    serializer = {"type": "pickle"}
    metadata = {"storage_key": str(stored), "serializer": serializer, "prefect_version": "3.9.1"}
    pickled = base64.encodebytes(pickle.dumps(Touches(marker))).decode()
    stored.write_text(json.dumps({"result": pickled, "metadata": metadata}))
    state = State(type=kind, data=metadata)
    readers = [
        partial(state.result, raise_on_failure=False),
        partial(ResultStore().read, str(stored)),
    ]
    if kind != StateType.COMPLETED:
        readers.append(partial(get_state_exception, state))
    for reader in readers:
        with pytest.raises(StoredResultError, match="somebody else has set this state"):
            reader()
    assert not marker.exists()
