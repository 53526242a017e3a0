"""Steps: the nodes of a sweep's graph, named by everything that determines their result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.store.code import foreign_code

if TYPE_CHECKING:
    from tasks.store.context import Context
    from tasks.store.store import Artifact

Facts = Mapping[str, Any]
MEMBER = "member"
"""Steps of a cell's own ensemble, which no other cell shares."""


class PassingError(Exception):
    """What is nobody's mistake and may be gone on a second try: a hub, a server."""


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of everything that determines a result.

    Raises:
        ValueError, TypeError: for what JSON cannot say exactly (NaN, other objects).
    """
    text = json.dumps(
        inputs, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Work:
    """One step being produced.

    Attributes:
        out: the folder to write to; it becomes the artifact when the facts are returned.
        progress: called with (parts done, parts in all).
    """

    context: Context
    step: Step
    out: Path
    progress: Callable[[int, int], None]

    def need(self, role: str) -> Artifact:
        """The artifact of a needed step, computed now unless it is there."""
        return self.context.make(self.step.needs[role])


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """One node of the graph.

    Attributes:
        name: what kind of step: ``model``, ``tokens``, ``statistics``, …
        version: raised when the step's results change: former artifacts are then not reused.
        inputs: what determines the result beside the needs; no paths, hosts or times. Of a step
            that another package's function produces its code is one more.
        needs: role → step whose artifact this one reads.
        produce: writes the artifact and returns its facts.
        outside: where the artifact lies when no store holds it, such as a model's own folder; such
            a step is never produced.
        unchanged: raises where what is read from outside the store is not what ``inputs`` says any
            more; asked when it is used, and again before what was made of it gets its name.
        label, group: in words, for people: ``tokenise docs`` and the model or cell it belongs to.
        words: what the inputs stand for, for people: a corpus's description, a model's name.
        about: what the step is about, for those that know its kind, such as a text's windows.
    """

    name: str
    version: int = 1
    inputs: Mapping[str, Any]
    needs: Mapping[str, Step] = field(default_factory=dict)
    produce: Callable[[Work], Facts] | None = field(default=None, repr=False)
    outside: Callable[[Context], Path] | None = field(default=None, repr=False)
    unchanged: Callable[[Context], None] = field(default=lambda _: None, repr=False)
    label: str = ""
    group: str = ""
    words: Mapping[str, str] = field(default_factory=dict, repr=False)
    about: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if code := foreign_code(self.produce):
            if self.inputs.get("code", code) != code:
                raise ValueError(f"the step {self.name} has an input code, which is its package's")
            object.__setattr__(self, "inputs", {**self.inputs, "code": code})

    @cached_property
    def fingerprint(self) -> str:
        """Merkle hash: of the inputs and of the fingerprints of what is needed."""
        needs = {role: step.fingerprint for role, step in self.needs.items()}
        return fingerprint(
            {"step": self.name, "version": self.version, "inputs": self.inputs, "needs": needs}
        )

    @property
    def place(self) -> str:
        """Where a home keeps it: ``name/fingerprint``."""
        return f"{self.name}/{self.fingerprint}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def walk(goals: Iterable[Step], *, into: Callable[[Step], bool] = lambda _: True) -> Iterator[Step]:
    """The steps behind ``goals``, each once, needs before what needs them.

    Args:
        into: whether to look at what a step needs; where not, the step alone is told.
    """
    seen: set[Step] = set()

    def visit(step: Step) -> Iterator[Step]:
        if step in seen:
            return
        seen.add(step)
        if into(step):
            for need in step.needs.values():
                yield from visit(need)
        yield step

    for goal in goals:
        yield from visit(goal)
