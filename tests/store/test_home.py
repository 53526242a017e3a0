"""The home folder, and locks in it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from filelock import FileLock

from tasks.store.home import require_writable
from tasks.store.locks import waited_for
from tasks.tracking.outages import locked


def test_several_may_begin_in_one_home_at_once(tmp_path: Path) -> None:
    """Each tries whether artifacts can be renamed; one removed the folder of another's try."""
    (tmp_path / "artifacts").mkdir()
    failed: list[BaseException] = []

    def begin() -> None:
        try:
            for _ in range(200):
                require_writable(tmp_path)
        except BaseException as error:  # noqa: BLE001 (told below)
            failed.append(error)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert list((tmp_path / "artifacts").iterdir()) == list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("kind", ["store", "tracking"])
def test_an_interrupt_as_soon_as_a_lock_is_held_gives_it_back(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = FileLock.acquire

    def interrupted(self: FileLock, *args: object, **kwargs: object) -> None:
        acquire(self, *args, **kwargs)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    path = tmp_path / "locks" / "x.lock"
    holding = waited_for(path, "tests") if kind == "store" else locked(tmp_path, "", "x")
    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt) as told:
        cut.setattr(FileLock, "acquire", interrupted)
        with holding:
            pass
    assert told.value.__traceback__  # which holds the lock, as an error that is told later does
    FileLock(path, is_singleton=False).acquire(timeout=0)
