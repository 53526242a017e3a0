"""The context of a sweep's steps: where artifacts are, what is trusted, loaded and told."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from configs.trust import Trust
from tasks.runtime.environment import environment
from tasks.runtime.progress import Progress
from tasks.store.steps import Facts, Step, Work
from tasks.store.store import Artifact, Store

T = TypeVar("T")


class Loaded:
    """What this process keeps in memory between steps: one object a role, such as ``dense``."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[Hashable, Any, Callable[[], None]]] = {}

    def get(
        self,
        role: str,
        key: Hashable,
        load: Callable[[], T],
        release: Callable[[], None] = lambda: None,
    ) -> T:
        """The role's object, loaded unless it is there under the same key.

        Args:
            release: called when the object is given up.
        """
        if role in self._held and self._held[role][0] == key:
            return self._held[role][1]
        self.release(role)  # never two of a role at once: they may be as large as the memory
        value = load()
        self._held[role] = (key, value, release)
        return value

    def held(self, role: str) -> Any:
        """The role's object where it is there; else None."""
        return self._held[role][1] if role in self._held else None

    def abandon(self) -> None:
        """Give all up after an error, which may be of a device that does not answer any more."""
        for role in tuple(self._held):
            with suppress(Exception):  # the error before it is the one to tell
                self.release(role)

    def release(self, *roles: str) -> None:
        """Give objects up; of all roles when none is named."""
        for role in roles or tuple(self._held):
            if role in self._held:
                _, _, after = self._held[role]
                # The object is gone before anyone asks for its memory back.
                del self._held[role], _
                after()


@dataclass(frozen=True)
class Context:
    """What the steps of one sweep work with in this process."""

    store: Store
    trust: Trust = field(default_factory=Trust)
    progress: Progress = field(default_factory=Progress)
    loaded: Loaded = field(default_factory=Loaded)
    _producing: list[float] = field(default_factory=list)

    def find(self, step: Step) -> Artifact | None:
        """The step's artifact where it is there and whole."""
        if step.outside is not None:
            path = step.outside(self)
            if not path.exists():
                return None
            step.unchanged(self)
            return Artifact(path, {}, reused=True)
        return self.store.find(step.place)

    def make(
        self,
        step: Step,
        *,
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> Artifact:
        """The step's artifact, computed unless it is there, with whatever it needs.

        Args:
            watch: called with (parts done, parts in all) while the step itself is computed.

        Raises:
            StorageFullError: when the disk has no room; and what the step raises.
        """
        if found := self.find(step):
            return found
        assert step.produce is not None, f"{step.place} lies outside and is gone"
        return self.store.get_or_create(step, lambda out: self._produced(step, out, watch))

    def _produced(self, step: Step, out: Path, watch: Callable[[int, int], None]) -> Facts:
        assert step.produce is not None
        with self.progress.work(step.group, step.label or step.name) as piece:

            def told(done: int, total: int) -> None:
                piece(done, total)
                watch(done, total)

            begun = time.perf_counter()
            self._producing.append(0.0)
            try:
                facts = step.produce(Work(self, step, out, told))
                self._require_unchanged(step)
            finally:
                needs_took = self._producing.pop()
                took = time.perf_counter() - begun
                if self._producing:
                    self._producing[-1] += took
        # What the step itself cost, loading included, without the needs that were computed for it.
        return {"step_seconds": took - needs_took, "environment": environment(), **facts}

    def _require_unchanged(self, step: Step) -> None:
        """What a step has read outside the store is what it was when the sweep began."""
        outside = [need for need in step.needs.values() if need.outside is not None]
        for source in (step, *outside):
            source.unchanged(self)
