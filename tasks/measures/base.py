"""What a measure is, to the code that plans, runs and shows it.

A measure is one class in one file or folder below ``tasks/measures``, or in an installed package
that names it under the entry points ``secateur.measures``. It says which fields a sweep's
``evaluation`` has for it, which steps compute it, which columns a row gets, and what they mean.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from tasks.measures.figures import Figure, Row, Value
from tasks.store.steps import Step, Work

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from configs.frozen import Frozen
    from configs.trust import Trust
    from tasks.data.texts import Windows
    from tasks.measures.compared import ComparedAnswers, Kept
    from tasks.store.store import Artifact


class Ensemble(Protocol):
    """What is asked of a cell's ensemble.

    Attributes:
        source: where its members come from.
        members: how many.
        windows: of each member's part of the calibration text.
    """

    @property
    def source(self) -> str: ...
    @property
    def members(self) -> int: ...
    @property
    def windows(self) -> int: ...


@dataclass(frozen=True)
class Member:
    """One model of a cell's ensemble, which is made for as long as it is measured.

    Attributes:
        inputs, needs: what determines it, for the step that measures it.
        model: the work of that step → the model, and its share of zeros.
    """

    inputs: Mapping[str, Any]
    needs: Mapping[str, Step]
    model: Callable[[Work], AbstractContextManager[tuple[PreTrainedModel, float]]]


Members = tuple[Member, ...] | str
"""Or why there are none."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One set of weights, as it is planned: a model as it came, or a cell's checkpoint.

    Attributes:
        label: in words: ``smollm2-135m wanda 0.5``.
        weights: the step whose artifact is the folder to load.
        dense: the model that a pruned one came from; None for that model itself.
        dtype: that it is loaded and measured in: ``float32``, ``bfloat16`` or ``float16``.
        evaluation: the sweep's section, with the fields of every measure.
        resolved: measure → what its :meth:`Measure.resolve` returned for this sweep.
        windows: (field, name, corpus, length, count) → token windows of a text for this model.
        exclude: patterns of layers that were not to be pruned.
        members: what is asked → the subject's ensemble, or why there is none.
        siblings: seed → the same cell with that seed of the sweep, this one among them; of a dense
            model none.
        pruned_again: the step of another model of the same shape → the step that prunes it as this
            subject was pruned; None for a dense model.
    """

    label: str
    weights: Step
    dense: Subject | None
    dtype: str
    evaluation: Any
    resolved: Mapping[str, Any]
    windows: Callable[..., Windows]
    exclude: tuple[str, ...] = ()
    members: Callable[[Ensemble], Members] = lambda asked: "nothing prunes it again"
    siblings: Callable[[], Mapping[int, Subject]] = dict
    pruned_again: Callable[[Step], Step] | None = None


class Measure(ABC):
    """Something that is measured. Stateless: one instance serves every sweep."""

    name: ClassVar[str]
    """What ``secateur measures`` calls it."""
    summary: ClassVar[str]
    """One line: what it tells."""
    version: ClassVar[int] = 1
    """Raise it when results change: former artifacts are then not reused."""
    scope: ClassVar[Literal["subject", "sweep"]] = "subject"
    """``subject``: of one dense or pruned model; ``sweep``: of several cells together."""
    writes: ClassVar[tuple[str, ...]]
    """The columns that it writes; ``<name>`` stands for what varies."""
    repeatable: ClassVar[bool] = True
    """Whether the same weights always give the same figures; no where time or memory is told."""
    suggested_for: ClassVar[Literal["", "decoders", "encoders"]] = ""
    """Whose sweep is told to ask for it when it asks for nothing."""
    always: ClassVar[bool] = False
    """Whether it is measured of every model unasked, and so is no reason to prune one."""
    on_form: ClassVar[tuple[str, ...]] = ()
    """Those of its fields that Prefect's page shows; all others are rows of the page's settings."""
    Settings: ClassVar[type[Frozen]]
    """The fields that a sweep's ``evaluation`` gets, each with a default and a line of help."""

    def resolve(self, evaluation: Any, trust: Trust) -> Any:
        """What must be known once before any step can be named, such as a task's data.

        Raises:
            ConfigurationError: when the sweep asks for what is not there.
        """
        del evaluation, trust

    def asks_of_encoders(self, evaluation: Any) -> str:
        """The ``--set`` that switches off what a sweep asks for and no encoder has, such as
        ``evaluation.speed=false``; empty where it asks for nothing of the kind."""
        del evaluation
        return ""

    def check(self, subject: Subject, config: Any) -> None:
        """Tell what can be told before weights are read: whether the model can be measured so.

        Args:
            subject: a dense model.
            config: its transformers configuration.

        Raises:
            ConfigurationError: it cannot.
        """
        del subject, config

    def steps(self, subject: Subject) -> Mapping[str, Step]:
        """Name within the measure → the step that computes it; empty when nobody asked.

        Of a measure of scope ``subject``.
        """
        del subject
        return {}

    def sweep_steps(self, subjects: Sequence[Subject]) -> Mapping[str, Step]:
        """As :meth:`steps`, of a measure of scope ``sweep``: dense models first, then cells."""
        del subjects
        return {}

    @abstractmethod
    def columns(self, found: Mapping[str, Artifact]) -> Mapping[str, Value]:
        """Column → value, from the artifacts of the steps that are there, by their names."""

    @abstractmethod
    def figures(self, columns: Sequence[str]) -> Sequence[Figure]:
        """What the columns of this measure mean, of those that results have."""

    def layers(self, found: Mapping[str, Artifact]) -> Mapping[str, Mapping[str, float]]:
        """Column → layer → its value there, for measures that know it layer by layer."""
        del found
        return {}

    def curves(self, found: Mapping[str, Artifact]) -> Mapping[str, Sequence[tuple[float, float]]]:
        """Column → (share, the figure there), growing; its figure's ``over`` says of what."""
        del found
        return {}

    def history(self, found: Mapping[str, Artifact]) -> Sequence[Mapping[str, float]]:
        """What was learned of a subject for the sake of measuring it: ``step``, and named figures.

        Tracking shows each as a curve under ``learning/<name>``.
        """
        del found
        return ()

    def notes(self, rows: Sequence[Row]) -> Sequence[str]:
        """What a reader of its figures must know, one sentence each."""
        del rows
        return ()

    def compare(
        self, a: Kept, b: Kept, columns: tuple[str, str], *, wanted: bool
    ) -> ComparedAnswers | None:
        """How two models answered the same questions; None where nothing of the kind is kept.

        Args:
            columns: the figures that are compared, A's and B's.
            wanted: broken questions are asked for, whatever the figures are.
        """
        del a, b, columns, wanted
        return None

    def described(self, subject: Subject, found: Mapping[str, Artifact]) -> Mapping[str, str]:
        """What was measured with, for the report: ``perplexity on docs`` → text, windows, digest.

        Args:
            subject: a dense model.
            found: its artifacts.
        """
        del subject, found
        return {}
