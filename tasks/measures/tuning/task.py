"""What a task is, to the code that tunes models for it and scores them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from tasks.measures.tuning.settings import Tuning
from tasks.store.steps import Facts, Step
from tasks.store.store import Artifact

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.measures.tuning.batches import Encoded
    from tasks.measures.tuning.objectives import Objective


class Task(ABC):
    """Knows its data and its labels; how a model is tuned is the same for all tasks.

    Attributes:
        kind: begins the names of its steps.
        words: names it where progress is told.
        version: of the score; raise it when results change.
        judged: the parts of the data that a score looks at.
        repeated: facts of what was learned that a score tells too.
        options: how models are tuned for it.
        data: the step of its data.
        columns: of the network.
        objective: what it learns.
        tokens: what a tokenizer learns for it, each one token.
        learning, scoring: what determines a tuned model, and a score, beyond what all tasks have.
    """

    kind: ClassVar[str]
    words: ClassVar[str]
    version: ClassVar[int]
    judged: ClassVar[tuple[str, ...]]
    repeated: ClassVar[tuple[str, ...]] = ()
    options: Tuning
    data: Step
    columns: int
    objective: Objective
    tokens: Sequence[str] = ()
    learning: Mapping[str, Any]
    scoring: Mapping[str, Any]

    @abstractmethod
    def read(self, data: Artifact) -> Mapping[str, Sequence[Any]]:
        """Part → its records; ``train`` is learned from."""

    @abstractmethod
    def encode(self, records: Sequence[Any], tokenizer: Any, longest: int) -> list[Encoded]:
        """The examples of a part.

        Raises:
            ConfigurationError: what must not be cut would be.
        """

    @abstractmethod
    def learned(self, encoded: Sequence[Encoded]) -> Facts:
        """What is worth knowing of the examples that were learned from."""

    @abstractmethod
    def score(
        self,
        records: Mapping[str, Sequence[Any]],
        encoded: Mapping[str, Sequence[Encoded]],
        logits: Mapping[str, Tensor],
        out: Path,
    ) -> Facts:
        """Figures, from the logits of every reading of the parts that are ``judged``.

        Args:
            records: of all parts.
            encoded: of the parts that are judged, as the logits.
            out: a folder for tables.
        """
